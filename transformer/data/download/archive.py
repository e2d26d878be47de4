"""Taking the named members, and only these, out of a tar or zip archive."""

import errno
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

from rich.filesize import decimal

from transformer.data.compression import DAMAGE, unpacked
from transformer.errors import DataError, DownloadError
from transformer.files import ARCHIVE_ERRORS, CHUNK_BYTES, atomic_path
from transformer.progress import byte_progress

# Errors of the system that an archive causes: it points before its beginning, a member is both a file and a folder.
OF_THE_ARCHIVE = (None, errno.EINVAL, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG)


def extract(archive: Path, members: list[str], folder: Path) -> None:
    """Write `members` of `archive` below `folder` under their own names, in one pass and never whole in memory.

    Safe by construction: nothing is written but regular files under the names asked for, and these may not
    leave `folder`; whatever else the archive holds (links, devices, `../x`) is passed over.

    Raises:
        DataError: a member is missing, leaves the folder, is a link or a device, or the archive is broken.
        DownloadError: the disk is too full.
    """
    for member in members:
        if PurePosixPath(member).is_absolute() or ".." in PurePosixPath(member).parts:
            raise DataError(f"{archive}: member {member} would leave the folder it is extracted to")
    try:
        take_out = _from_zip if zipfile.is_zipfile(archive) else _from_tar
        missing = take_out(archive, set(members), folder)
    except (*ARCHIVE_ERRORS, *DAMAGE, OSError) as error:
        if isinstance(error, OSError) and error.errno not in OF_THE_ARCHIVE:
            raise  # a problem of the disk
        reason = " ".join(str(error).split())
        raise DataError(f"{archive} is broken ({reason}): delete it and run the download again") from None
    if missing:
        raise DataError(f"{archive} has no member {', '.join(sorted(missing))}")


def _from_tar(archive: Path, wanted: set[str], folder: Path) -> set[str]:
    """Extract what is wanted and return what was not found."""
    with (
        archive.open("rb") as packed,
        byte_progress(f"extracting {archive.name}", archive.stat().st_size) as progress,
        tarfile.open(fileobj=unpacked(packed), mode="r|") as tar,  # not r:*, which knows no zstd
    ):
        while wanted and (entry := tar.next()) is not None:
            name = entry.name.removeprefix("./")
            if name not in wanted:
                continue
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise DataError(f"{archive}: member {name} is a link or a device, not a file")
            _write(content, entry.size, folder / name, lambda: progress(packed.tell()))
            wanted = wanted - {name}
    return wanted


def _from_zip(archive: Path, wanted: set[str], folder: Path) -> set[str]:
    with zipfile.ZipFile(archive) as packed:
        found = wanted & set(packed.namelist())
        for name in sorted(found):
            with packed.open(name) as content:
                _write(content, packed.getinfo(name).file_size, folder / name, lambda: None)
    return wanted - found


def _write(content: IO[bytes], size: int, target: Path, progressed: Callable[[], None]) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    require_space(target.parent, size, target.name)
    with atomic_path(target) as temporary, temporary.open("wb") as stream:
        while chunk := content.read(CHUNK_BYTES):
            stream.write(chunk)
            progressed()


def require_space(folder: Path, size: int, what: str) -> None:
    """Stop before the disk is full.

    Raises:
        DownloadError: fewer than `size` bytes are free where `folder` is.
    """
    free = shutil.disk_usage(folder).free
    if free < size:
        raise DownloadError(f"{what} needs {decimal(size)} and {folder} has {decimal(free)} free: make room")
