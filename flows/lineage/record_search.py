"""Where records are found: in the workspace, then in git's history, then with the runs in MLflow."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from flows.checkout.git import Git
from flows.checkout.workspace import RECORDS
from flows.lineage.run_store import RunStore
from flows.records.dvc_files import LockedStage
from flows.records.record import Record, md5s, parse_record, record_path
from transformer.errors import DataError

BROUGHT = "the parent's own records"
EXPERIMENTS = "refs/exps/"  # DVC's; below it the baseline's id in two parts, then the name


@dataclass(frozen=True)
class Found:
    """A record and where it was found."""

    record: Record
    origin: str
    commit: str | None = None  # the commit that holds it


class RecordSearch:
    """All records that can be reached from a checkout.

    Where a method takes a `revision`, a commit's id, only that commit's files and its history count: neither the
    workspace nor other branches, experiments, stashes or the reflog have a say in what made it.
    """

    def __init__(self, root: Path, git: Git, runs: RunStore) -> None:
        self.root = root
        self._git = git
        self._runs = runs
        self._all: list[Found] | None = None
        self._brought: list[Found] = []
        self._sent_records: dict[str, list[Found]] = {}

    def bring(self, contents: Iterable[bytes | None]) -> None:
        """Know these records, too, which came with a parent: another checkout may have made it."""
        for content in contents:
            try:
                self._brought.append(Found(parse_record(content or b"", BROUGHT), BROUGHT))
            except DataError:
                continue  # its content is lost, or of another schema

    def of_lock(self, locked: LockedStage, revision: str | None = None) -> Found | None:
        """The record of the execution that made what dvc.lock's entry lists.

        One that also read the same is preferred: another execution may have made equal outputs of other inputs.
        """

        def wrote(record: Record) -> bool:
            made = md5s(record.outputs)
            return record.stage == locked.name and made == locked.outputs

        def read_too(record: Record) -> bool:
            return wrote(record) and md5s(record.inputs) == locked.inputs

        if found := self._local(read_too, revision):
            return found
        sent = [found for found in self._sent(locked.name) if wrote(found.record)]
        same = next((one for one in sent if read_too(one.record)), None)
        return same or self._local(wrote, revision) or next(iter(sent), None)

    def maker(self, path: str, md5: str, before: str, revision: str | None = None) -> Found | None:
        """The record of a stage that wrote this content to `path`, itself or in a folder.

        One that had ended `before` that time (UTC, ISO 8601) is preferred: a later execution may have made equal
        outputs of other inputs.
        """

        def wrote(record: Record) -> bool:
            return wrote_content(record, path, md5) is not None

        earlier = self._local(lambda record: record.ended <= before and wrote(record), revision)
        return earlier or self._local(wrote, revision)

    def writer_of(
        self, *contents: str, before: str | None = None, revision: str | None = None
    ) -> tuple[Found, str] | None:
        """The record that has one of these hashes for an output or a file in it, and that path.

        `before` is preferred as by `maker`.
        """
        known = list(self.everywhere(revision))
        earlier = (found for found in known if before and found.record.ended <= before)
        for found in chain(earlier, known):
            for output in found.record.outputs:
                if output.sha256 in contents or output.md5 in contents:
                    return found, output.path
                for name, md5 in output.files.items():
                    if md5 in contents:
                        return found, f"{output.path}/{name}"
        return None

    def of_spool(self, spool: str) -> Found | None:
        """The record of one execution."""
        return self._local(lambda record: record.runs.spool == spool)

    def of_stage(self, stage: str, revision: str | None = None) -> Iterator[Found]:
        """Every record of a stage, the nearest first."""
        yield from (found for found in self.everywhere(revision) if found.record.stage == stage)
        yield from self._sent(stage)

    def copies(self, record: Record, revision: str | None = None) -> Iterator[Found]:
        """Wherever the record of the same execution is, in whichever branch, experiment, stash or reflog."""
        known = chain(self.everywhere(revision), self.history() if revision else ())
        return (found for found in known if found.record.runs.spool == record.runs.spool)

    def everywhere(self, revision: str | None = None) -> Iterator[Found]:
        """All records without malformed ones: the workspace's, HEAD's history, parents', then those of other refs.

        With a `revision` those of its files, of its history, and parents'.
        """
        head = revision or self._git.commit("HEAD")
        own = self.history(head) if head else []
        yield from self._files(revision) if revision else self._workspace()
        yield from own
        yield from self._brought
        if revision is None:
            mine = set(map(id, own))
            yield from (found for found in self.history() if id(found) not in mine)

    def _local(self, wanted: Callable[[Record], bool], revision: str | None = None) -> Found | None:
        return next((found for found in self.everywhere(revision) if wanted(found.record)), None)

    def _workspace(self) -> Iterator[Found]:
        for path in sorted(record_path(self.root, "*").parent.glob("*.json")):
            try:
                yield Found(parse_record(path.read_bytes(), path.name), "workspace")
            except DataError:
                continue  # `verify` reports it

    def _files(self, commit: str) -> Iterator[Found]:
        for name, content in self._git.below(commit, RECORDS).items():
            try:
                yield Found(parse_record(content, name), f"commit {commit[:10]}", commit)
            except DataError:
                continue  # no record, or of another schema

    def history(self, tip: str | None = None) -> list[Found]:
        """The records in git, newest first: in the history of `tip`, or of all refs and the reflog."""
        if self._all is None:
            versions = self._git.versions(RECORDS)
            contents = self._git.blobs(blob for _, _, blob in versions)
            self._all = []
            for (commit, path, _), content in zip(versions, contents, strict=True):
                try:
                    record = parse_record(content or b"", path)
                except DataError:
                    continue  # of another schema, or edited before it was committed
                self._all.append(Found(record, f"commit {commit[:10]}", commit))
        if tip is None:
            return self._all
        within = self._git.ancestors(tip)
        return [found for found in self._all if found.commit in within]

    def committed(self, record: Record, tip: str | None = None) -> Found | None:
        """The oldest commit in the history of `tip` that contains the record; without a tip, of any ref's history."""
        held = [one for one in self.history(tip) if one.record.runs.spool == record.runs.spool]
        reachable = [one for one in held if tip or (one.commit and self._git.refs_with(one.commit))]
        return next(reversed(reachable), None)

    def held_by(self, record: Record) -> str | None:
        """Where in git the record is that no history in question has, in words; None if it is nowhere."""
        held = [one for one in self.history() if one.record.runs.spool == record.runs.spool]
        refs = [ref for one in held if one.commit for ref in self._git.refs_with(one.commit)]
        # DVC's own, such as EXEC_HEAD, are no names for people: last.
        ref = min(refs, key=lambda ref: ref.startswith(f"{EXPERIMENTS}exec/"), default=None)
        if ref is None:
            return f"the reflog's {str(held[0].commit)[:10]}" if held else None
        return ref_in_words(ref)

    def _sent(self, stage: str) -> list[Found]:
        """The records of all runs of the stage: MLflow knows contents by SHA-256, dvc.lock by MD5."""
        if stage not in self._sent_records:
            self._sent_records[stage] = []
            for run, text in self._runs.records_of(stage):
                try:
                    found = Found(parse_record(text, f"MLflow run {run}"), f"MLflow run {run}")
                except DataError:
                    continue
                self._sent_records[stage].append(found)
        return self._sent_records[stage]


def wrote_content(record: Record, path: str, md5: str) -> str | None:
    """The output of `record` that is, or holds at `path`, a content of this MD5."""
    for output in record.outputs:
        inner = path[len(output.path) + 1 :] if path.startswith(f"{output.path}/") else None
        if (output.path == path and output.md5 == md5) or (inner and output.files.get(inner) == md5):
            return output.path
    return None


def ref_in_words(ref: str) -> str:
    """A ref as people name it: experiment s2, branch main, tag v1, the stash."""
    kinds = {"refs/heads/": "branch ", "refs/remotes/": "branch ", "refs/tags/": "tag "}
    if ref == "refs/stash":
        return "the stash"
    if ref.startswith(EXPERIMENTS):
        return f"experiment {ref.rpartition('/')[2]}"
    return next((kind + ref.removeprefix(start) for start, kind in kinds.items() if ref.startswith(start)), ref)
