"""SHA-256 and DVC's MD5 of files and folders, each byte read once and nothing of DVC imported."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from transformer.files import CHUNK_BYTES, files_below

OVERLOOKED = ("*.swp", "*~", ".DS_Store")  # as in .dvcignore, of what may lie beside what stages read
DIRECTORY_SUFFIX = ".dir"  # DVC's mark of an MD5 that stands for a folder's listing


@dataclass(frozen=True)
class FileHashes:
    """Both hashes of one file's bytes."""

    md5: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Hashes:
    """Both hashes of a file or folder, as `dvc.lock` and `transformer.files.sha256_of` know them."""

    md5: str
    sha256: str
    size: int  # bytes
    files: dict[str, FileHashes] = field(default_factory=dict)  # of a folder, by relative path

    @property
    def listing(self) -> dict[str, str]:
        """A folder's relative paths with their MD5s."""
        return {name: hashes.md5 for name, hashes in self.files.items()}


def hash_file(path: Path) -> FileHashes:
    """Read a file once."""
    md5, sha256, size = hashlib.md5(usedforsecurity=False), hashlib.sha256(), 0
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            md5.update(chunk)
            sha256.update(chunk)
            size += len(chunk)
    return FileHashes(md5.hexdigest(), sha256.hexdigest(), size)


def hash_path(path: Path) -> Hashes:
    """Hash a file, or a folder's files on all cores.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    if not path.is_dir():
        found = hash_file(path)
        return Hashes(found.md5, found.sha256, found.size)
    names = files_below(path)
    with ThreadPoolExecutor() as pool:
        files = {
            name.relative_to(path).as_posix(): hashes
            for name, hashes in zip(names, pool.map(hash_file, names), strict=True)
        }
    return folder_hashes(files)


def hash_tracked(path: Path) -> Hashes:
    """The hashes as DVC has them: what editors and desktops leave in a folder, .dvcignore has it overlook.

    Raises:
        FileNotFoundError: there is nothing at `path`.
    """
    found = hash_path(path)
    kept = {name: one for name, one in found.files.items() if not _is_overlooked(name)}
    return found if len(kept) == len(found.files) else folder_hashes(kept)


def _is_overlooked(name: str) -> bool:
    return any(fnmatchcase(part, pattern) for part in name.split("/") for pattern in OVERLOOKED)


def folder_hashes(files: dict[str, FileHashes]) -> Hashes:
    """A folder's hashes from those of its files by relative path."""
    ordered = dict(sorted(files.items()))
    lines = "".join(f"{hashes.sha256}  {name}\n" for name, hashes in ordered.items())
    return Hashes(
        directory_md5({name: hashes.md5 for name, hashes in ordered.items()}),
        hashlib.sha256(lines.encode()).hexdigest(),
        sum(hashes.size for hashes in ordered.values()),
        ordered,
    )


def directory_md5(listing: dict[str, str]) -> str:
    """DVC's name for a folder: the MD5 of its listing as JSON, marked as a directory."""
    return md5_of_bytes(listing_text(listing).encode()) + DIRECTORY_SUFFIX


def listing_text(listing: dict[str, str]) -> str:
    """What DVC's cache holds under that name."""
    entries = [{"md5": md5, "relpath": name} for name, md5 in sorted(listing.items())]
    return json.dumps(entries, sort_keys=True)


def md5_of_bytes(content: bytes) -> str:
    """A file's MD5 by its content."""
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def md5_with_lf(path: Path) -> str:
    """A file's MD5 if its lines ended with LF alone; what holds a zero byte is no text, as for git."""
    content = path.read_bytes()
    return md5_of_bytes(content if b"\0" in content else content.replace(b"\r\n", b"\n"))
