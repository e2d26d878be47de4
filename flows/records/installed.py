"""What of a process came from no commit: packages, whether they are as installed, and code that nobody installed."""

import base64
import csv
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path

from flows.records.hashes import hash_file
from flows.records.imports import is_ours


@dataclass(frozen=True)
class InstalledFile:
    """What pip says it has installed."""

    folder: str  # that of the environment's packages, links followed
    path: str  # below it
    sha256: str


def installed_files(packages: Iterable[Distribution]) -> list[InstalledFile]:
    """The files of these distributions; left out is what names the environment."""
    found = []
    for one in packages:
        folder = os.path.realpath(str(one.locate_file("")))
        for path, coded, _size in csv.reader((one.read_text("RECORD") or "").splitlines()):
            if coded.startswith("sha256=") and not path.split("/")[0].endswith((".dist-info", "..")):
                sha256 = base64.urlsafe_b64decode(f"{coded.removeprefix('sha256=')}=").hex()
                found.append(InstalledFile(folder, path, sha256))
    return found


def files_digest(files: list[InstalledFile]) -> str | None:
    """SHA-256 of the sorted lines 'sha256  path'; None if there are none."""
    lines = sorted({f"{one.sha256}  {one.path}\n" for one in files})
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def interpreter_sha256() -> str:
    """SHA-256 of the Python that runs, links followed."""
    return hash_file(Path(sys.executable).resolve()).sha256


def strangers(files: list[InstalledFile]) -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 by path of imported modules that are not as installed, and of those that nobody installed.

    The second kind is what PYTHONPATH, `sitecustomize` or a `.pth` file brought in. Python's own library, of which no
    list of hashes exists, and modules of the checkout are left out.
    """
    known = {f"{one.folder}{os.sep}{one.path}": one.sha256 for one in files}
    paths = sorted(_third_party())
    with ThreadPoolExecutor() as pool:
        found = dict(zip(paths, pool.map(lambda path: hash_file(Path(path)).sha256, paths), strict=True))
    altered = {path: sha256 for path, sha256 in found.items() if known.get(path, sha256) != sha256}
    return altered, {path: sha256 for path, sha256 in found.items() if path not in known}


def _third_party() -> Iterator[str]:
    """The files of imported modules that are neither the checkout's nor Python's own."""
    root = f"{Path.cwd()}{os.sep}"
    own = tuple(f"{os.path.realpath(sysconfig.get_path(name))}{os.sep}" for name in ("stdlib", "platstdlib"))
    specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
    # Python imports these two at its start; they may have taken themselves out of sys.modules.
    specs += [find_spec(name) for name in ("sitecustomize", "usercustomize") if name not in sys.modules]
    for origin in filter(None, (getattr(spec, "origin", None) for spec in specs)):
        path = os.path.realpath(origin)
        if (
            os.path.isfile(path)
            and not is_ours(origin, root)
            and not (path.startswith(own) and "-packages" not in path)
        ):
            yield path
