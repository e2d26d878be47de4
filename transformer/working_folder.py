"""Working folders outside DVC's outputs, in which an interrupted stage finds the work already done.

DVC deletes a stage's outputs before it runs. A working folder is named by a fingerprint of the settings, the inputs
and the code, so that a run that would make anything else never finds it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import transformer
from transformer.errors import DataError
from transformer.files import files_below, locked, sha256_of

LOCK_FILE = "lock"
KEPT_FOLDERS = 3


def fingerprint(settings: Any, code: Iterable[str], inputs: Path) -> str:
    """A name for what these settings (any JSON), this code (paths below the package) and these inputs make."""
    package = Path(transformer.__file__).parent
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for folder in [*(package / path for path in code), inputs]:
        for path in files_below(folder) if folder.is_dir() else [folder]:
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
    return digest.hexdigest()[:16]


@contextmanager
def working_folder(work: Path, name: str, kept: int = KEPT_FOLDERS) -> Iterator[Path]:
    """The folder `name` below `work`, locked against a second process; all but the `kept` last used ones go.

    Raises:
        DataError: another process is using it.
    """
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_FILE, wait=False) as free:
        if not free:
            raise DataError(f"{folder} is in use: another process runs with the same params and data")
        os.utime(folder)
        _prune(work, kept)
        yield folder


def _prune(work: Path, kept: int) -> None:
    """Delete all but the most recently used folders; one that a process holds is left alone."""
    folders = sorted((path for path in work.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime)
    for folder in folders[:-kept]:
        with locked(folder / LOCK_FILE, wait=False) as free:
            if free:
                shutil.rmtree(folder)
