"""The process groups that each flow run has started, so that they end when the run ends, for whatever reason.

A module of its own because Prefect may pickle the flow function by value: a table in the same module would be a copy.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from flows.processes.ending import end

GRACE_SECONDS = 20.0  # time to write a checkpoint; after a cancel, a Prefect worker gives the flow 30 s

_lock = threading.Lock()
_live: dict[str, list["subprocess.Popen[bytes]"]] = {}
_stopped: set[str] = set()


class RunStopped(Exception):  # noqa: N818  # not an error: somebody asked for it
    """The flow run is ending; nothing more is to be started for it."""


@contextmanager
def group_of(
    run: str, command: list[str], folder: Path, environment: dict[str, str]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Start `command` in a session of its own on behalf of flow run `run`; stop its whole group after the body.

    stdout and stderr come through one pipe.

    Raises:
        RunStopped: the run is ending.
    """
    with _lock:
        if run in _stopped:
            raise RunStopped
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        _live.setdefault(run, []).append(process)
    try:
        yield process
    finally:
        _end([process])
        if process.stdout:
            process.stdout.close()
        with _lock:
            _live[run].remove(process)


def stop(run: str) -> None:
    """Stop everything that `run` has started and refuse to start more; returns once all of it has ended."""
    with _lock:
        _stopped.add(run)
        processes = list(_live.get(run, []))
    _end(processes)


def is_stopped(run: str) -> bool:
    """Whether `stop` was called."""
    return run in _stopped


def _end(processes: list["subprocess.Popen[bytes]"]) -> None:
    """End each whole group."""

    def send(number: signal.Signals) -> None:
        for process in processes:
            if members(process.pid):
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, number)

    end(send, lambda: not any(members(process.pid) for process in processes), GRACE_SECONDS)
    for process in processes:
        process.wait()


def members(group: int) -> list[int]:
    """The pids of a process group, without zombies: in a container perhaps nobody ever reaps those."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
        except (ProcessLookupError, psutil.Error):
            continue
    return found
