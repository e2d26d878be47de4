"""With this folder on PYTHONPATH, the processes of a run meet what the environment plants: a kill, or a wrong clock.

Python runs this at its start. FAULT_PROCESS names the module whose process the kill hits (as in `python -m MODULE`).

* KILL_AT=N: SIGKILL to the whole process group, so to dvc, the stage and its workers at once, before the N-th file
  operation (a file opened for writing, renamed, linked, deleted, a folder made or removed) below the working folder.
* KILL_AFTER=S: the same, S seconds after the first file operation, wherever the process is then.
* OPERATIONS_TO=FILE: no kill; the number of file operations and the seconds from the first to the end go there.
* CLOCK_BACK=S: `time.time` is S seconds slow in every process.
"""

import atexit
import os
import signal
import sys
import threading
import time
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR
CHANGES = {"os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.symlink"}
HERE = os.getcwd()


class Operations:
    """Counts what this process does to files of the working folder, and kills when its time has come."""

    def __init__(self) -> None:
        self.count, self.begun = 0, 0.0
        self.kill_at = int(os.environ.get("KILL_AT", 0))
        self.kill_after = float(os.environ.get("KILL_AFTER", 0))

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook."""
        if event == "open":
            path, _, flags = arguments
            if not (isinstance(flags, int) and flags & WRITING):
                return
        elif event in CHANGES:
            path = arguments[0]
        else:
            return
        if not isinstance(path, str | bytes | os.PathLike) or "__pycache__" in os.fsdecode(path):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(HERE):
            return
        self.count += 1
        if self.count == 1:
            self.begun = time.monotonic()
            if self.kill_after:
                threading.Thread(target=self._kill_later, daemon=True).start()
        if self.count == self.kill_at:
            kill()

    def _kill_later(self) -> None:
        time.sleep(self.kill_after)
        kill()

    def report(self) -> None:
        """At the end of a process that was not to be killed."""
        with open(os.environ["OPERATIONS_TO"], "w", encoding="utf-8") as stream:
            stream.write(f"{self.count} {time.monotonic() - self.begun}")


def kill() -> None:
    """End everything that a terminal, or a machine that lost its power, would end."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


if os.environ.get("FAULT_PROCESS", "") in sys.orig_argv:
    operations = Operations()
    sys.addaudithook(operations)
    if "OPERATIONS_TO" in os.environ:
        atexit.register(operations.report)

if back := float(os.environ.get("CLOCK_BACK", 0)):
    right, right_ns = time.time, time.time_ns
    time.time = lambda: right() - back
    time.time_ns = lambda: right_ns() - int(back * 1e9)
