"""Whole copies of what outputs hold: in DVC's cache, in the workspace, in git."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from flows.checkout.git import Git
from flows.checkout.workspace import WORK
from flows.records.dvc_stores import DvcStores
from flows.records.hashes import DIRECTORY_SUFFIX, directory_md5, hash_path, listing_text, md5_of_bytes
from flows.records.record import parse_record, record_path
from transformer.errors import UserError
from transformer.files import atomic_path

DAMAGED = f"{WORK}/damaged"  # where an output is kept that is not what dvc.lock names
Files = dict[str, str]  # MD5 of each file of an output by its path in the folder; of a file, by the empty path


class Copies:
    """Finds copies, hashes them before use, and mends or removes damaged objects of DVC's cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.told: list[str] = []  # what was mended or removed
        self._cache = DvcStores(root).cache
        self._git = Git(root)

    def bring_back(self, stage: str, path: str, md5: str) -> bool:
        """Put the output there, whole; if a copy of any of its files is missing, set aside what is there now."""
        contents = self.find(stage, path, md5)
        here = self.root / path
        if contents is None:
            _set_aside(here, self.root / DAMAGED / path)
            return False
        new = here.with_name(f".{here.name}.{os.getpid()}.new")
        _remove(new)
        try:
            if md5.endswith(DIRECTORY_SUFFIX):
                new.mkdir(parents=True)
            for name, content in contents.items():
                _copy(content, new / name if name else new)
            _remove(here)
            new.replace(here)
        finally:
            _remove(new)
        return True

    def find(self, stage: str, path: str, md5: str) -> dict[str, Path | bytes] | None:
        """A whole copy of each file of the output; None if one is missing. Damaged objects leave the cache."""
        files = self._files(stage, path, md5)
        if files is None:
            return None
        contents = {name: self._whole(f"{path}/{name}" if name else path, one) for name, one in files.items()}
        found = {name: content for name, content in contents.items() if content is not None}
        return found if len(found) == len(contents) else None

    def discard_damaged(self, stage: str, path: str, md5: str) -> None:
        """Hash the objects of an output's files that are missing in the workspace or have another size there."""
        for name, one in (self._files(stage, path, md5) or {}).items():
            kept = self._cache.path_of(one)
            if kept.exists() and _size(self.root / path / name) != _size(kept):
                self._whole(f"{path}/{name}" if name else path, one)

    def _files(self, stage: str, path: str, md5: str) -> Files | None:
        if not md5.endswith(DIRECTORY_SUFFIX):
            return {"": md5}
        if self._is_whole(md5):
            return self._cache.listing(md5)
        found = self._listings(stage, path, md5)
        files = next((one for one in found if one is not None and directory_md5(one) == md5), None)
        self._settle(md5, f"the list of files of {path}", None if files is None else listing_text(files).encode())
        return files

    def _listings(self, stage: str, path: str, md5: str) -> Iterator[Files | None]:
        """What may be in the folder, one after the other: the later ones ask git, and hash it."""
        yield self._recorded(stage, path, md5)
        yield self._committed_folder(path)
        yield self._here(path)

    def _recorded(self, stage: str, path: str, md5: str) -> Files | None:
        file = record_path(self.root, stage)
        try:
            outputs = parse_record(file.read_bytes(), str(file)).outputs
        except (OSError, UserError):
            return None
        return next((one.files for one in outputs if (one.path, one.md5) == (path, md5)), None)

    def _committed_folder(self, path: str) -> Files | None:
        head = self._git.commit("HEAD")
        files = self._git.below(head, path) if head else {}
        return {name: md5_of_bytes(content) for name, content in files.items()} or None

    def _here(self, path: str) -> Files | None:
        folder = self.root / path
        return hash_path(folder).listing if folder.is_dir() else None

    def _whole(self, path: str, md5: str) -> Path | bytes | None:
        """A copy of the file `path` with this MD5."""
        if self._is_whole(md5):
            return self._cache.path_of(md5)
        content = self._elsewhere(path, md5)
        self._settle(md5, path, content)
        return content

    def _elsewhere(self, path: str, md5: str) -> Path | bytes | None:
        here = self.root / path
        if here.is_file() and hash_path(here).md5 == md5:
            return here
        versions = self._git.blobs(blob for _, one, blob in self._git.versions(path) if one == path)
        return next((content for content in versions if content is not None and md5_of_bytes(content) == md5), None)

    def _settle(self, md5: str, what: str, content: Path | bytes | None) -> None:
        """A damaged object of the cache is replaced by `content`; without any, it is removed."""
        damaged = self._cache.path_of(md5)
        if not damaged.exists():
            return
        if content is None:
            damaged.unlink()
            self.told.append(f"DVC's cache held a damaged copy of {what}: removed")
        else:
            _copy(content, damaged)
            damaged.chmod(0o444)  # as DVC has them
            self.told.append(f"DVC's cache held a damaged copy of {what}: replaced by a whole one")

    def _is_whole(self, md5: str) -> bool:
        return self._cache.md5_of(md5) == md5


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _copy(content: Path | bytes, target: Path) -> None:
    with atomic_path(target) as temporary:
        if isinstance(content, bytes):
            temporary.write_bytes(content)
        else:
            shutil.copyfile(content, temporary)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _set_aside(here: Path, there: Path) -> None:
    if here.exists():
        _remove(there)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(here, there)  # work/ may be on another file system
