"""Files: hashed, locked, shut to other users, and written so that no reader ever sees half of one."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

CHUNK_BYTES = 1 << 20
HASH = "sha256_of_the_rest"  # the key under which a JSON object holds it
OWNER_ONLY, OWNER_ONLY_FOLDER = 0o600, 0o700  # modes of what is nobody else's business
# What file systems without locks or without fsync of folders answer: some network file systems and FUSE.
NOT_THERE = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)
logger = logging.getLogger(__name__)


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
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise
        _tell_once("the file system has no locks: do not run two of the same at once")
    return True


@cache
def _tell_once(problem: str) -> None:
    logger.warning("warning: %s", problem)


def sync(descriptor: int) -> None:
    """Have an open file or folder survive a power cut, where its file system can promise that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_THERE:
            raise


def sync_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        sync(descriptor)
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
            sync(stream.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def link_or_copy(file: Path, target: Path) -> None:
    """Make `target` a hard link to `file`, or a copy where the file system has no such links or is another one."""
    try:
        os.link(file, target)
    except OSError:
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)


def keep_hashed(written: Path, name: str) -> Path:
    """Rename a complete file so that it is found as `name` by `kept_files`; its new name ends in its hash."""
    kept = written.with_name(f"{name}.{sha256_of(written)}")
    written.replace(kept)
    return kept


def kept_files(folder: Path) -> dict[str, Path]:
    """What `keep_hashed` left in `folder`, by name. A file whose bytes have changed since is deleted, with a word."""
    kept = {}
    for path in sorted(folder.glob("*.*")):
        name, _, digest = path.name.rpartition(".")
        if name.startswith(".") or len(digest) != 64:
            continue
        if sha256_of(path) == digest:
            kept[name] = path
        else:
            logger.warning("%s is damaged: it is deleted and made again", path)
            path.unlink()
    return kept


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order, with a final newline.

    Raises:
        ValueError: a number is NaN or infinite, which JSON does not know.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def hash_of(content: dict[str, Any]) -> str:
    """SHA-256 of what is written as JSON, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def write_hashed_json(path: Path, content: dict[str, Any]) -> None:
    """`write_json` with the SHA-256 of the content under a key of its own, for `read_hashed_json`."""
    write_json(path, {**content, HASH: hash_of(content)})


def read_hashed_json(path: Path) -> dict[str, Any] | None:
    """What was written; nothing where there is no file, None where it is not as it was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        written: str = content.pop(HASH)
        return content if written == hash_of(content) else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError, KeyError, AttributeError, TypeError):
        return None


def private_folder(path: Path) -> Path:
    """Make the folder, or shut an existing one of ours to other users; returns it."""
    path.mkdir(mode=OWNER_ONLY_FOLDER, parents=True, exist_ok=True)
    _shut(path)
    return path


def shut_to_others(folder: Path) -> None:
    """Take all rights of other users from the folder and from what is in it, as far as it is ours."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            _shut(path)


def _shut(path: Path) -> None:
    with contextlib.suppress(OSError):  # somebody else's, gone meanwhile, or a file system without such modes
        mode = path.stat().st_mode & 0o777
        if mode & ~OWNER_ONLY_FOLDER:
            path.chmod(mode & OWNER_ONLY_FOLDER)


def open_private(path: Path, mode: str = "a") -> IO[str]:
    """Open a text file for writing; where it is new, only its owner can read it."""
    return open(path, mode, encoding="utf-8", opener=lambda name, flags: os.open(name, flags, OWNER_ONLY))


def write_private(path: Path, text: str) -> None:
    """Write UTF-8 text atomically to a file that was at no moment readable by other users."""
    with atomic_path(path) as temporary, open_private(temporary, "x") as stream:
        stream.write(text)
