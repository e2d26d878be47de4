"""Is what really ran, by the hashes that a record took while Python imported it, what git holds?

DVC's dependencies tell which code decides the outputs; a stage runs more than that, and whoever edits the rest while
it runs may forge its outputs all the same.
"""

from collections.abc import Iterator

from flows.lineage.chain import Chain, Step
from flows.lineage.checks.commits import Past
from flows.lineage.checks.link import Link, Status, broken, missing
from flows.lineage.project import Project
from flows.records.imports import source_sha256
from flows.records.record import Executed, Record

WATCHED_SINCE = "flows/records/imports.py"  # a commit that has it records what was imported
SHOWN = 3  # modules that are named one by one


def check_executed(project: Project, chain: Chain) -> Iterator[Link]:
    """The modules, the packages and whatever else each step with a record has run."""
    for step in chain.steps:
        if record := step.record:
            if record.executed:
                yield _modules(project, chain, record, record.executed.modules)
                yield from _besides(record, record.executed)
                yield from _since(project, chain, step, record.executed.modules)
            elif record.code.commit and project.git.file(record.code.commit, WATCHED_SINCE) is not None:
                yield broken(record.stage, "imported code", "record", "expected the modules that ran found none")


def _modules(project: Project, chain: Chain, record: Record, modules: dict[str, str]) -> Link:
    """Each module as the commit has it that the stage ran at or, where it had been edited, that of its results.

    Where the history was rewritten, as by a rebase, what took that commit's place has to have them.
    """
    where = f"git {(record.code.commit or 'none')[:10]}"
    if not project.git.present or record.code.commit is None:
        return missing(record.stage, "imported code", "git", "there is no git history to compare with")
    past, differing = Past(project, chain, record), modules
    for commit in past.lasting:
        differing = _differing(project, commit, differing)
        if not differing:
            return Link(record.stage, "imported code", f"git {commit[:10]}", Status.OK)
    named = _named(differing)
    if not past.known:
        return past.not_here("imported code")
    if not past.in_history and not _differing(project, past.commit, differing):
        why = f"{named}: ran as only {past.commit[:10]} has it, which is in no branch"
        return missing(record.stage, "imported code", where, why, f"git branch NAME {past.commit[:10]}")
    if past.results:
        return broken(record.stage, "imported code", where, f"{named}: ran as no commit has it")
    here = {path: sha256 for path, sha256 in differing.items() if _in_workspace(project, path) == sha256}
    if chain.here and here == differing:
        return missing(record.stage, "imported code", where, f"{named}: not committed yet", "git commit --all")
    gone = {path: sha256 for path, sha256 in differing.items() if path not in here}
    return broken(
        record.stage, "imported code", where, f"{_named(gone)}: ran as neither git nor the workspace has it"
    )


def _differing(project: Project, commit: str, modules: dict[str, str]) -> dict[str, str]:
    contents = project.git.blobs(f"{commit}:{path}" for path in modules)
    return {
        path: sha256
        for (path, sha256), content in zip(modules.items(), contents, strict=True)
        if content is None or source_sha256(content) != sha256
    }


def _in_workspace(project: Project, path: str) -> str | None:
    file = project.root / path
    return source_sha256(file.read_bytes()) if file.is_file() else None


def _besides(record: Record, executed: Executed) -> Iterator[Link]:
    """Code of no commit: packages that were changed after their installation, and files that nobody installed."""
    if executed.undeclared:
        words = f"{_named(executed.undeclared)}: ran, and {record.stage} does not depend on it"
        yield broken(record.stage, "imported code", "dvc.yaml", words)
    if executed.altered:
        yield broken(record.stage, "packages", "as installed", f"{_named(executed.altered)}: changed afterwards")
    else:
        yield Link(record.stage, "packages", "as installed", Status.OK)
    if executed.strangers:
        words = f"{_named(executed.strangers)}: ran, and is in no commit and no installed package"
        yield missing(record.stage, "code from elsewhere", "git, packages", words)


def _since(project: Project, chain: Chain, step: Step, modules: dict[str, str]) -> Iterator[Link]:
    """What has changed of the imported code since; that of declared dependencies is compared with dvc.lock."""
    if not chain.here and chain.commit is None:
        return
    plumbing = {path: sha256 for path, sha256 in modules.items() if not _is_declared(path, step)}
    if chain.commit:
        where, differing = f"git {chain.commit[:10]}", _differing(project, chain.commit, plumbing)
    else:
        where = "workspace"
        differing = {path: sha for path, sha in plumbing.items() if _in_workspace(project, path) != sha}
    if differing:
        yield Link(
            step.stage,
            "imported code",
            where,
            Status.CHANGED,
            f"{_named(differing)}: another one today; lineage reproduce shows whether it matters",
        )


def _is_declared(path: str, step: Step) -> bool:
    return any(path == one or path.startswith(f"{one}/") for one in step.inputs)


def _named(paths: dict[str, str] | list[str]) -> str:
    names = list(paths)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
