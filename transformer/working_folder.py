"""Working folders outside DVC's outputs, in which an interrupted stage finds the work already done.

DVC deletes a stage's outputs before it runs. A working folder is named by a fingerprint of the settings, the inputs
and the code, so that a run that would make anything else never takes it for its own:

    settings.json   params, versions, and the hashes of inputs and code, for people and for `differences`
    progress.json   how far it has come, where the stage counts that; without it, it is unfinished
    pinned          keeps it, whatever its size and age
    lock            held while a process uses it

What is unfinished stays until a person removes it (`python -m flows.states`); what is finished goes by size and age.
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformer
from transformer.errors import DataError
from transformer.files import files_below, hash_of, locked, read_hashed_json, sha256_of, write_hashed_json

log = logging.getLogger(__name__)

LOCK_FILE, SETTINGS_FILE, PROGRESS_FILE, PIN_FILE = "lock", "settings.json", "progress.json", "pinned"
FINISHED_DAYS = 30  # a finished state that nobody has used for longer goes
FINISHED_BYTES = 20 * 10**9  # of all finished states; the last used ones stay, and one whatever its size
CODE, DATA = "code", "data"  # keys of settings whose value is a table of hashes

Settings = dict[str, Any]


def settings_of(params: dict[str, Any], code: Iterable[str], inputs: Path, **versions: str) -> Settings:
    """All that decides what a run makes, as JSON: params by section, versions, hashes of code and inputs.

    `code` are paths below the package.
    """
    package = Path(transformer.__file__).parent
    return {**params, **versions, CODE: _hashes(package, code), DATA: _hashes(inputs, ["."])}


def name_of(settings: Settings) -> str:
    """The name of the working folder of these settings."""
    return hash_of(settings)[:16]


def _hashes(root: Path, paths: Iterable[str]) -> dict[str, str]:
    tops = [root / path for path in paths]
    files = [file for top in tops for file in (files_below(top) if top.is_dir() else [top])]
    return {file.relative_to(root).as_posix(): sha256_of(file) for file in files}


def differences(before: Settings, now: Settings) -> dict[str, tuple[Any, Any]]:
    """The settings that differ, by dotted key, with both values; of code and data the names of the files."""
    old, new = _flat(before), _flat(now)
    found = {key: (old.get(key), new.get(key)) for key in [*old, *(new.keys() - old.keys())]}
    return {key: values for key, values in found.items() if values[0] != values[1]}


def in_words(key: str, before: Any, now: Any) -> str:
    """One difference as a person reads it: `training.seed 1 → 2`."""
    if key in (CODE, DATA):
        before, now = before or {}, now or {}
        files = sorted(name for name in {**before, **now} if before.get(name) != now.get(name))
        more = f" and {len(files) - 3} more" if len(files) > 3 else ""
        return f"{key} has changed ({', '.join(files[:3])}{more})"
    return f"{key} {_value(before)} → {_value(now)}"


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _flat(settings: Settings) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and key not in (CODE, DATA):
            flat |= {f"{key}.{name}": one for name, one in _flat(value).items()}
        else:
            flat[key] = value
    return flat


@dataclass(frozen=True)
class State:
    """A working folder and what is known of it; `settings` is empty where settings.json is missing or damaged."""

    folder: Path
    settings: Settings
    update: int | None  # how far it has come; None where the stage counts nothing
    updates: int | None
    finished: bool
    pinned: bool
    bytes: int
    used: float  # when a run last began in it or saved, as time.time() counts
    damaged: list[str]  # files that are not as they were written

    @classmethod
    def read(cls, folder: Path) -> "State":
        """What is known of the folder."""
        told = {name: read_hashed_json(folder / name) for name in (SETTINGS_FILE, PROGRESS_FILE)}
        progress = told[PROGRESS_FILE] or {}
        files = [path.stat() for path in files_below(folder)]
        return cls(
            folder=folder,
            settings=told[SETTINGS_FILE] or {},
            update=progress.get("update"),
            updates=progress.get("updates"),
            finished=progress.get("finished") is True,
            pinned=(folder / PIN_FILE).exists(),
            bytes=sum({one.st_ino: one.st_size for one in files}.values()),
            used=folder.stat().st_mtime,
            damaged=[name for name, content in told.items() if content is None],
        )


def states_below(work: Path) -> list[State]:
    """The working folders below `work`, the last used one first."""
    folders = [path for path in work.iterdir() if path.is_dir()] if work.is_dir() else []
    return sorted(map(State.read, folders), key=lambda state: state.used, reverse=True)


def pin(folder: Path, keep: bool = True) -> None:
    """Keep the folder, whatever its size and age; or do so no longer."""
    used = folder.stat()
    (folder / PIN_FILE).touch() if keep else (folder / PIN_FILE).unlink(missing_ok=True)
    os.utime(folder, ns=(used.st_atime_ns, used.st_mtime_ns))


def remove(folder: Path) -> None:
    """Delete a working folder.

    Raises:
        DataError: a process is using it.
    """
    with locked(folder / LOCK_FILE, wait=False) as free:
        if not free:
            raise DataError(f"{folder} is in use: stop the process that runs in it first")
        shutil.rmtree(folder)


def write_progress(folder: Path, update: int, updates: int, finished: bool) -> None:
    """Say how far the work in this folder has come; once it is finished it may go, by size and age."""
    write_hashed_json(folder / PROGRESS_FILE, {"update": update, "updates": updates, "finished": finished})


def write_settings(folder: Path, settings: Settings) -> None:
    """Write down what the work in this folder follows from, and tell a person what else waits beside it."""
    write_hashed_json(folder / SETTINGS_FILE, settings)
    if waiting := [one for one in states_below(folder.parent) if one.folder != folder and not one.finished]:
        size = sum(one.bytes for one in waiting) / 1e9
        log.info("unfinished work beside it: %d, %.1f GB; python -m flows.states lists it", len(waiting), size)


@contextmanager
def working_folder(work: Path, name: str) -> Iterator[Path]:
    """The folder `name` below `work`, locked against a second process; finished ones go by size and age.

    Raises:
        DataError: another process is using it.
    """
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / LOCK_FILE, wait=False) as free:
        if not free:
            raise DataError(f"{folder} is in use: another process runs with the same params and data")
        os.utime(folder)
        _prune(work, folder)
        yield folder


def _prune(work: Path, own: Path) -> None:
    """Delete finished folders that are old or too many bytes; those pinned, or held by a process, are left alone."""
    others = [state for state in states_below(work) if state.folder != own]
    taken, oldest = 0, time.time() - FINISHED_DAYS * 86_400
    for state in (one for one in others if one.finished and not one.pinned):
        reason = f"not used for {FINISHED_DAYS} days" if state.used < oldest else ""
        if taken and taken + state.bytes > FINISHED_BYTES:
            reason = f"finished states may take {FINISHED_BYTES / 1e9:.0f} GB"
        if reason and _removed(state.folder):
            log.info("removed the finished state %s (%.1f GB): %s", state.folder, state.bytes / 1e9, reason)
        else:
            taken += state.bytes


def _removed(folder: Path) -> bool:
    try:
        remove(folder)
    except DataError:  # a process uses it
        return False
    return True
