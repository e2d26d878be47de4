"""A checkout with all that tells of its past: git, records, runs, the DVC cache and remote."""

from functools import cached_property
from pathlib import Path

from flows.checkout.git import Git
from flows.lineage.lock import LockedStage, parse_lock
from flows.lineage.places import Places
from flows.lineage.records import Records
from flows.lineage.run_store import RunStore, default_uri
from flows.records.hashes import hash_file, md5_of_bytes
from transformer.errors import ParamsError

LOCK_FILE = "dvc.lock"


class Project:
    """The checkout at `root`.

    Raises:
        ParamsError: `root` is no checkout of this pipeline.
    """

    def __init__(self, root: Path) -> None:
        if not (root / "dvc.yaml").exists():
            raise ParamsError("there is no dvc.yaml here: run lineage in the root of a checkout")
        self.root = root.resolve()
        self.git = Git(self.root)
        self.runs = RunStore(default_uri(self.root), self.root)
        self.records = Records(self.root, self.git, self.runs)
        self.places = Places(self.root)
        self._locks: dict[str, dict[str, LockedStage]] = {}

    @cached_property
    def lock(self) -> dict[str, LockedStage]:
        """The stages of the workspace's dvc.lock; none where nothing has run yet."""
        path = self.root / LOCK_FILE
        return parse_lock(path.read_bytes(), LOCK_FILE) if path.exists() else {}

    def lock_at(self, commit: str) -> dict[str, LockedStage]:
        """The stages of dvc.lock at a commit; none where it has none.

        Raises:
            DataError: it is malformed.
        """
        if commit not in self._locks:
            content = self.git.file(commit, LOCK_FILE)
            self._locks[commit] = parse_lock(content, f"{LOCK_FILE} at {commit[:10]}") if content is not None else {}
        return self._locks[commit]

    def content(self, path: str, md5: str) -> bytes | None:
        """A file's content of this MD5, from wherever it is kept; `path` is its name in the workspace and in git."""
        here = self.root / path
        if here.is_file() and hash_file(here).md5 == md5:
            return here.read_bytes()
        found = self.places.cache.read(md5)
        if found is None:
            versions = self.git.blobs(blob for _, _, blob in self.git.versions(path))
            found = next((content for content in versions if content and md5_of_bytes(content) == md5), None)
        if found is None and self.places.remote_name and not self.places.remote_problem:
            found = self.places.remote.read(md5)
        return found
