"""Files: hashed, locked, and written so that no reader ever sees half of one."""

import errno
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CHUNK_BYTES = 1 << 20


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file, or of a folder's sorted relative paths and file hashes."""
    if path.is_dir():
        lines = (f"{sha256_of(file)}  {file.relative_to(path).as_posix()}\n" for file in files_below(path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def files_below(folder: Path) -> list[Path]:
    """Every file below a folder in a stable order, bytecode caches left out."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


@contextmanager
def locked(path: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the lock `path`, a folder or a file that is made where it is missing, during the body.

    Waits for the process or thread that holds it; without `wait`, the body gets False instead. The lock ends with the
    process, however that ends.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY)  # another user's file could not be opened for writing
    except FileNotFoundError:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        yield _flock(descriptor, wait)
    finally:
        os.close(descriptor)


def _flock(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is fsynced and renamed to `path`, else deleted."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order, with a final newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


# Problems of the disk, which no stack trace explains better than their own words.
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EMFILE)


def disk_problem(error: OSError) -> str | None:
    """A problem of the disk in one line with its cure; None if it is something else."""
    number = error.errno
    if number is None and (told := re.search(r"[Ee]rrno (\d+)", str(error))):  # Arrow only writes it
        number = int(told[1])
    if number not in DISK:
        return None
    cure = "make room" if number in (errno.ENOSPC, errno.EDQUOT) else "make that possible"
    return f"{error.filename or Path.cwd()}: {os.strerror(number)}: {cure} and start again"
