"""What of a process came from no commit: packages, whether they are as installed, and code that nobody installed."""

import base64
import csv
import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import Distribution, distributions
from importlib.util import find_spec
from pathlib import Path

from flows.records.hashes import hash_file
from flows.records.imports import is_ours


def recorded_files(distribution: Distribution) -> Iterator[tuple[str, str]]:
    """(path, SHA-256) of what pip says it has installed; left out is what names the environment."""
    for path, coded, _size in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        if coded.startswith("sha256=") and not path.split("/")[0].endswith((".dist-info", "..")):
            yield path, base64.urlsafe_b64decode(f"{coded.removeprefix('sha256=')}=").hex()


def files_digest(found: list[Distribution]) -> str | None:
    """SHA-256 of the sorted lines 'sha256  path' of all that was installed; None if nothing says so."""
    lines = sorted({f"{sha256}  {path}\n" for one in found for path, sha256 in recorded_files(one)})
    return hashlib.sha256("".join(lines).encode()).hexdigest() if lines else None


def interpreter_sha256() -> str:
    """SHA-256 of the Python that runs, links followed."""
    return hash_file(Path(sys.executable).resolve()).sha256


def strangers() -> tuple[dict[str, str], dict[str, str]]:
    """SHA-256 by path of imported modules that are not as installed, and of those that nobody installed.

    The second kind is what PYTHONPATH, `sitecustomize` or a `.pth` file brought in. Python's own library, of which no
    list of hashes exists, and modules of the checkout are left out.
    """
    known = {
        f"{base}{os.sep}{path}": sha256
        for one in distributions()
        for base in [os.path.realpath(str(one.locate_file("")))]
        for path, sha256 in recorded_files(one)
    }
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
