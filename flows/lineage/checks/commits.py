"""Are the recorded commits still there, and do they hold the code and the params that each step ran with?

After an amend, a rebase or a squash merge the recorded commit is gone from the history: then the commit that holds
the record counts, if it has the same code and params.
"""

from collections.abc import Iterator

from flows.checkout.workspace import PARAMS
from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status, broken, compared, compared_maps, missing
from flows.lineage.project import Project
from flows.records.nested_keys import flatten
from flows.records.record import Record
from transformer.yaml12 import InvalidYamlError, parse_yaml

COMMIT_ALL = "git add dvc.lock params.yaml reports && git commit"
UNSHALLOW = "git fetch --unshallow"
BEYOND_SHALLOW = f"commits beyond this shallow clone ({UNSHALLOW})"


def check_commits(project: Project, chain: Chain) -> Iterator[Link]:
    """The commit of each step that has a record, with its code and params."""
    for step in chain.steps if project.git.present else ():
        if step.record:
            yield from _commit(project, chain, step, step.record)


def _commit(project: Project, chain: Chain, step: Step, record: Record) -> Iterator[Link]:
    code = {path: md5 for path, md5 in step.inputs.items() if chain.maker(path) is None}
    if record.code.commit is None:
        yield missing(record.stage, "commit", "git", "the stage ran without git")
    else:
        past = Past(project, chain, record)
        yield _reachable(past, code)
        yield _params_at(past)
        yield from (_code_input(past, path, md5) for path, md5 in code.items())
    if chain.here:
        file = project.root / PARAMS
        yield _params(record, "workspace", file.read_bytes() if file.exists() else None, f"git restore {PARAMS}")
    elif chain.commit:
        where = f"git {chain.commit[:10]}"
        yield _params(record, where, project.git.file(chain.commit, PARAMS))
        for path, md5 in code.items():
            yield compared(record.stage, path, where, md5, project.md5_at(chain.commit, path))


class Past:
    """Where in git the code of one execution can be."""

    def __init__(self, project: Project, chain: Chain, record: Record) -> None:
        assert record.code.commit is not None
        self.project, self.record, self.commit = project, record, record.code.commit
        self.tip = project.tip(chain)
        committed = project.records.committed(record, self.tip)
        self.results = committed.commit if committed else None  # the first commit that holds the record
        self.known = project.git.commit(self.commit) is not None
        inside = bool(self.tip and self.commit in project.git.ancestors(self.tip))
        self.in_history = inside or (self.known and bool(project.git.refs_with(self.commit)))

    def places(self, edited: bool) -> list[str]:
        """The commits that may hold what the stage ran with; if it was edited then, it was committed later."""
        later = [self.results, self.tip]
        recorded = [self.commit] if self.known else []
        wanted = later if edited else recorded if self.in_history else [*later, *recorded]
        return list(dict.fromkeys(filter(None, wanted)))

    @property
    def lasting(self) -> list[str]:
        """The commits of the history in question, or of any ref's, that may hold what ran, edited or not."""
        wanted = [self.commit, self.results] if self.in_history else [self.results, self.tip]
        return list(dict.fromkeys(filter(None, wanted)))

    def not_here(self, what: str) -> Link:
        """The commit is not in this repository, and no other has the same."""
        stage = self.record.stage
        do, beyond = (UNSHALLOW, BEYOND_SHALLOW) if self.project.git.shallow else ("", "")
        why = f"no commit here has what the stage {stage} ran with"
        return missing(stage, what, f"git {self.commit[:10]}", why, do, beyond)

    def rewritten_to(self, code: dict[str, str]) -> str | None:
        """The commit that took the recorded one's place: it has the same code and params."""
        for commit in filter(None, [self.results, self.tip if self.known else None]):
            same = all(self.project.md5_at(commit, path) == md5 for path, md5 in code.items())
            if same and _params(self.record, "", self.project.git.file(commit, PARAMS)).status is Status.OK:
                return commit
        return None


def _reachable(past: Past, code: dict[str, str]) -> Link:
    """The commit is in the history or, where that was rewritten, its code and params are those of another."""
    stage, git = past.record.stage, past.project.git
    if past.in_history:
        return Link(stage, "commit", "git", Status.OK)
    if not past.known and git.shallow:
        why = f"this shallow clone has no commit {past.commit}"
        return missing(stage, "commit", "git", why, UNSHALLOW, BEYOND_SHALLOW)
    if other := past.rewritten_to(code):
        return Link(stage, "commit", "git", Status.OK, f"rewritten since: {other[:10]} has its code and params")
    if not past.known:
        do = "git fetch --tags" if git.run("remote") else ""
        return missing(stage, "commit", "git", f"this repository has no commit {past.commit}", do)
    words = f"a history with {past.commit} found {past.tip}" if past.tip else f"a ref with {past.commit} found none"
    return broken(stage, "commit", "git", f"expected {words}")


def _code_input(past: Past, path: str, md5: str) -> Link:
    """The code as it was committed before the stage ran or, if it had been edited, later with the results."""
    stage = past.record.stage
    edited = any(name == path or name.startswith(f"{path}/") for name in past.record.code.changed)
    where, found = f"git {past.commit[:10]}", None
    for commit in past.places(edited):
        found = past.project.md5_at(commit, path)
        if found == md5:
            return Link(stage, path, f"git {commit[:10]}", Status.OK)
    if edited:
        return missing(stage, path, where, "had uncommitted changes", f"git add {path} && git commit")
    if not past.known:
        return past.not_here(path)
    if found is None:
        return missing(stage, path, where, "not in git")
    return compared(stage, path, where, md5, found)


def _params_at(past: Past) -> Link:
    edited = PARAMS in past.record.code.changed
    where, link = f"git {past.commit[:10]}", None
    for commit in past.places(edited):
        link = _params(past.record, f"git {commit[:10]}", past.project.git.file(commit, PARAMS))
        if link.status is Status.OK:
            return link
    if edited and past.results is None:
        return missing(past.record.stage, "params", where, "had uncommitted changes", COMMIT_ALL)
    if not edited and not past.known:
        return past.not_here("params")
    return link or missing(past.record.stage, "params", where, f"no {PARAMS}")


def _params(record: Record, where: str, content: bytes | None, do: str = "") -> Link:
    """A params file has the values that the stage ran with."""
    if content is None:
        return missing(record.stage, "params", where, f"no {PARAMS}", do)
    try:
        leaves = flatten(parse_yaml(content, PARAMS))
    except (InvalidYamlError, AttributeError) as error:  # not YAML, or no table
        return broken(record.stage, "params", where, f"expected params found {error}")
    expected = flatten(record.depended)
    return compared_maps(
        record.stage, "params", where, expected, {key: leaves[key] for key in expected if key in leaves}
    )
