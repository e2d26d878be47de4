"""A checkout with everything that knows its past: git, records, MLflow's runs, DVC's cache and remote."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flows.checkout.git import Git
from flows.checkout.workspace import DEFINITION, LOCK, check_is_checkout, main_workspace, tracking_uri
from flows.lineage.record_logs import RecordLogs
from flows.lineage.record_search import RecordSearch
from flows.lineage.run_store import RunStore
from flows.records.dvc_files import LockedStage, StageDefinition, parse_definition, parse_lock
from flows.records.dvc_stores import DvcStores
from flows.records.hashes import directory_md5, hash_file, md5_of_bytes
from transformer.errors import DataError

if TYPE_CHECKING:
    from flows.lineage.chain import Chain


class UnfinishedError(DataError):
    """A file of the workspace can't be read since a merge, rebase, … of git's is not finished."""

    def __init__(self, path: str, command: str) -> None:
        super().__init__(
            f"{path} holds both sides of a {command} that is not committed yet: "
            f"git {command} --continue, or git {command} --abort"
        )


class Project:
    """The checkout at `root`, whose runs are in the store of `workspace`, by default of the one it belongs to.

    Raises:
        ParamsError: `root` is not a checkout of this pipeline.
    """

    def __init__(self, root: Path, workspace: Path | None = None) -> None:
        check_is_checkout(root)
        self.root = root.resolve()
        self.git = Git(self.root)
        workspace = workspace or main_workspace(self.root)
        self.runs = RunStore(tracking_uri(workspace), workspace)
        self.records = RecordSearch(self.root, self.git, self.runs)
        self.logs = RecordLogs(self.root, self.git, self.records)
        self.stores = DvcStores(self.root)
        self._locks: dict[str, dict[str, LockedStage]] = {}

    def definition(self, commit: str | None) -> dict[str, StageDefinition]:
        """The stages of dvc.yaml, of the workspace or at a commit.

        Raises:
            DataError: it is malformed or missing.
        """
        if commit is None:
            return parse_definition((self.root / DEFINITION).read_bytes(), DEFINITION)
        return parse_definition(self.git.file(commit, DEFINITION) or b"", f"{DEFINITION} at {commit[:10]}")

    def tip(self, chain: "Chain") -> str | None:
        """The commit whose history has to hold a chain's records: the revision's, or HEAD; None: any ref will do."""
        return chain.commit or (self.git.commit("HEAD") if chain.here else None)

    @cached_property
    def lock(self) -> dict[str, LockedStage]:
        """The stages of the workspace's dvc.lock; none if nothing has been run yet.

        Raises:
            UnfinishedError: a merge has left both sides in it.
            DataError: it is malformed.
        """
        path = self.root / LOCK
        try:
            return parse_lock(path.read_bytes(), LOCK) if path.exists() else {}
        except DataError:
            if self.git.unfinished:
                raise UnfinishedError(LOCK, self.git.unfinished) from None
            raise

    def lock_at(self, commit: str) -> dict[str, LockedStage]:
        """The stages of dvc.lock at a commit; none if it has no dvc.lock.

        Raises:
            DataError: it is malformed.
        """
        if commit not in self._locks:
            content = self.git.file(commit, LOCK)
            self._locks[commit] = parse_lock(content, f"{LOCK} at {commit[:10]}") if content is not None else {}
        return self._locks[commit]

    def md5_at(self, commit: str, path: str) -> str | None:
        """DVC's MD5 of a file or folder as git holds it at a commit."""
        content = self.git.file(commit, path)
        if content is not None:
            return md5_of_bytes(content)
        files = self.git.below(commit, path)
        return directory_md5({name: md5_of_bytes(text) for name, text in files.items()}) if files else None

    def content(self, path: str, md5: str) -> bytes | None:
        """The content with this MD5, from wherever it is kept; `path` is its name in the workspace and in git."""
        here = self.root / path
        if here.is_file() and hash_file(here).md5 == md5:
            return here.read_bytes()
        found = self.stores.cache.read(md5)
        if found is None:
            versions = self.git.blobs(blob for _, _, blob in self.git.versions(path))
            found = next((content for content in versions if content and md5_of_bytes(content) == md5), None)
        if found is None and self.stores.remote_name and not self.stores.remote_problem:
            found = self.stores.remote.read(md5)
        return found
