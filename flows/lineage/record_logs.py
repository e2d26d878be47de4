"""The logs of records of a checkout: the workspace's and those of commits."""

from collections.abc import Iterator
from pathlib import Path

from flows.checkout.git import Git
from flows.lineage.record_search import Found, RecordSearch
from flows.signatures.log import LOG, Log, parse_log
from transformer.errors import DataError


class RecordLogs:
    """Each log, read once; None for one that is missing or malformed, which `lineage verify` reports elsewhere."""

    def __init__(self, root: Path, git: Git, records: RecordSearch) -> None:
        self._root = root
        self._git = git
        self._records = records
        self._at: dict[str, Log | None] = {}

    @property
    def workspace(self) -> Log | None:
        """That of the workspace."""
        path = self._root / LOG
        return _read(path.read_bytes()) if path.is_file() else None

    def at(self, commit: str) -> Log | None:
        """That of a commit."""
        if commit not in self._at:
            text = self._git.file(commit, LOG)
            self._at[commit] = _read(text) if text is not None else None
        return self._at[commit]

    def versions(self, commit: str) -> dict[str, Log]:
        """Those of all commits that changed it and that `commit` descends from."""
        # Without full history, git leaves out the side of a merge whose lines were dropped.
        listing = self._git.run("log", "--full-history", "--format=%H", commit, "--", LOG)
        logs = {one: self.at(one) for one in (listing or b"").decode().split()}
        return {one: log for one, log in logs.items() if log is not None}

    def beside(self, found: Found, here: bool, tip: str | None) -> Iterator[tuple[str, Log]]:
        """The logs where the record was found, and what to call them: the workspace's, one in `tip`'s history."""
        if here and found.origin == "workspace" and (log := self.workspace):
            yield "log", log
        committed = self._records.committed(found.record, tip)
        if committed and committed.commit and (log := self.at(committed.commit)):
            yield f"log at {committed.commit[:10]}", log


def _read(text: bytes) -> Log | None:
    try:
        return parse_log(text, LOG)
    except DataError:
        return None
