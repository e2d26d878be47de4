"""Are the recorded commits still there, and do they hold the code and the params that each step ran with?"""

from collections.abc import Iterator

from flows.checkout.workspace import PARAMS
from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status, broken, compared, compared_maps, missing
from flows.lineage.project import Project
from flows.lineage.record_search import Found
from flows.records.nested_keys import flatten
from flows.records.record import Record
from transformer.yaml12 import InvalidYamlError, parse_yaml


def check_commits(project: Project, chain: Chain) -> Iterator[Link]:
    """The commit of each step that has a record, with its code and params."""
    for step in chain.steps if project.git.present else ():
        if step.record:
            yield from _commit(project, chain, step, step.record)


def _commit(project: Project, chain: Chain, step: Step, record: Record) -> Iterator[Link]:
    commit, branch, committed = record.code.commit, record.code.branch, project.records.committed(record)
    if commit is None:
        yield missing(record.stage, "commit", "git", "the stage ran without git")
        return
    if project.git.commit(commit) is None:
        yield missing(record.stage, "commit", "git", f"this repository has no commit {commit}")
        return
    yield _reachable(project, record.stage, commit, branch)
    for path, md5 in step.inputs.items():
        if chain.maker(path) is None:
            yield _code_input(project, record, path, md5, committed)
    yield _params_at(project, record, commit, committed)
    if chain.here:
        file = project.root / PARAMS
        yield _params(record, "workspace", file.read_bytes() if file.exists() else None)
    elif chain.commit:
        yield _params(record, f"git {chain.commit[:10]}", project.git.file(chain.commit, PARAMS))
        for path, md5 in step.inputs.items():
            if chain.maker(path) is None:
                found = project.md5_at(chain.commit, path)
                yield compared(record.stage, path, f"git {chain.commit[:10]}", md5, found)


def _reachable(project: Project, stage: str, commit: str, branch: str | None) -> Link:
    """The branch that the stage ran on still contains the commit or, if the branch is gone, some other ref does."""
    name = f"refs/heads/{branch}"
    if project.git.commit(name):
        if project.git.contains(name, commit):
            return Link(stage, "commit", f"branch {branch}", Status.OK)
        tip = project.git.commit(name)
        return broken(stage, "commit", f"branch {branch}", f"expected a history with {commit} found {tip}")
    if project.git.refs_with(commit):
        return Link(stage, "commit", "git", Status.OK)
    return broken(stage, "commit", "git", f"expected a branch or tag with {commit} found none")


def _code_input(project: Project, record: Record, path: str, md5: str, committed: Found | None) -> Link:
    """The code as it was committed before the stage ran or, if it had been edited, later with the results."""
    commit = record.code.commit
    assert commit is not None
    edited = any(name == path or name.startswith(f"{path}/") for name in record.code.changed)
    if edited:
        later = project.md5_at(committed.commit, path) if committed and committed.commit else None
        if later == md5:
            return Link(record.stage, path, f"git {commit[:10]}", Status.OK)
        return missing(record.stage, path, f"git {commit[:10]}", "had uncommitted changes")
    found = project.md5_at(commit, path)
    if found is None:
        return missing(record.stage, path, f"git {commit[:10]}", "not in git")
    return compared(record.stage, path, f"git {commit[:10]}", md5, found)


def _params_at(project: Project, record: Record, commit: str, committed: Found | None) -> Link:
    edited = PARAMS in record.code.changed
    if edited and (committed is None or committed.commit is None):
        return missing(record.stage, "params", f"git {commit[:10]}", "had uncommitted changes")
    at = committed.commit if edited and committed and committed.commit else commit
    return _params(record, f"git {at[:10]}", project.git.file(at, PARAMS))


def _params(record: Record, where: str, content: bytes | None) -> Link:
    """A params file has the values that the stage ran with."""
    if content is None:
        return missing(record.stage, "params", where, f"no {PARAMS}")
    try:
        leaves = flatten(parse_yaml(content, PARAMS))
    except (InvalidYamlError, AttributeError) as error:  # not YAML, or no table
        return broken(record.stage, "params", where, f"expected params found {error}")
    expected = flatten(record.depended)
    return compared_maps(
        record.stage, "params", where, expected, {key: leaves[key] for key in expected if key in leaves}
    )
