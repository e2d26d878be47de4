"""Entries of DVC's rwlock whose process is gone while another process has the same pid.

DVC itself drops an entry when no process has its pid. But in a new container pids start from 1 again, so that the
entry of a killed `dvc` could block the workspace for ever.
"""

import json
import os
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import make_lock
from dvc.repo import Repo

from transformer.files import write_text


def drop_stale_entries(repo: Repo) -> list[str]:
    """Remove the entries that the process of their pid cannot have written; returns the commands they name."""
    path = Path(repo.tmp_dir) / "rwlock"
    guard = make_lock(
        os.path.join(repo.tmp_dir, "rwlock.lock"),
        tmp_dir=repo.tmp_dir,
        hardlink_lock=repo.config["core"].get("hardlink_lock", False),
    )
    if not path.exists():
        return []
    with guard:
        written = path.stat().st_mtime
        try:
            content: dict[str, dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        except json.JSONDecodeError:  # cut off by a full disk or a power cut
            path.unlink()
            return ["an unreadable rwlock"]
        writers, readers = content.get("write", {}), content.get("read", {})
        kept: dict[str, dict[str, Any]] = {
            "write": {name: entry for name, entry in writers.items() if not _is_stale(entry, written)},
            "read": {name: [one for one in some if not _is_stale(one, written)] for name, some in readers.items()},
        }
        dropped = sorted(_commands(content) - _commands(kept))
        if dropped:
            write_text(path, json.dumps(kept))
    return dropped


def _commands(content: dict[str, dict[str, Any]]) -> set[str]:
    readers = [entry for entries in content.get("read", {}).values() for entry in entries]
    return {f"{entry['cmd']} (process {entry['pid']})" for entry in [*content.get("write", {}).values(), *readers]}


def _is_stale(entry: dict[str, Any], written: float) -> bool:
    """Whether the process of that pid is another one: it started after the entry, or runs something else."""
    try:
        process = psutil.Process(entry["pid"])
        arguments = entry["cmd"].partition(" ")[2]
        return process.create_time() > written or not " ".join(process.cmdline()).endswith(arguments)
    except psutil.Error:  # no such process: DVC drops the entry itself, and says so
        return False
