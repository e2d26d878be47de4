"""A long-running process that `make serve` keeps alive: starting it, waiting until it is ready, stopping it."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.processes.die_with_parent import die_with_parent
from flows.processes.ending import end
from transformer.errors import UserError
from transformer.files import open_private, private_folder

SHORT_SECONDS = 60.0
PR_SET_CHILD_SUBREAPER = 36  # from <linux/prctl.h>


class ServiceError(UserError):
    """A service did not come up."""


@dataclass
class Service:
    """One process with its log; it gets SIGTERM when the process that started it dies."""

    name: str
    command: list[str]
    folder: Path
    environment: dict[str, str]
    log: Path
    health: str | None = None  # the URL that answers once the service is ready
    umask: int = -1  # -1: that of this process
    started: float = 0.0
    short_lives: int = 0  # how often in a row it has ended within SHORT_SECONDS
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C in the terminal reaches only this process."""
        private_folder(self.log.parent)
        self.started = time.monotonic()
        with open_private(self.log) as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                umask=self.umask,
                preexec_fn=die_with_parent,
            )

    def ended(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self.process.poll() if self.process else 0

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait() if self.process else 0

    def restart(self) -> None:
        """Start it again after it has ended by itself."""
        short = time.monotonic() - self.started < SHORT_SECONDS
        self.short_lives = self.short_lives + 1 if short else 0
        self.start()

    def is_ready(self) -> bool:
        """Whether its address answers.

        Raises:
            ServiceError: it has ended instead.
        """
        if self.ended() is not None:
            raise ServiceError(f"{self.name} ended with status {self.ended()}: see {self.log}")
        if self.health is None:
            return True
        try:
            with urllib.request.urlopen(self.health, timeout=5) as answer:  # noqa: S310  # our own, on loopback
                return bool(answer.status == 200)
        except OSError:
            return False

    def children(self) -> int:
        """How many processes it has started itself that still live."""
        try:
            return len(psutil.Process(self.process.pid).children()) if self.process else 0
        except psutil.NoSuchProcess:
            return 0

    def stop(self, patience: float) -> None:
        """SIGTERM, and after `patience` seconds SIGKILL."""
        if self.process is None:
            return
        end(self.process.send_signal, lambda: self.ended() is not None, patience)
        self.process.wait()


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent dies, so that we can still find and stop them."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def orphans(services: list[Service]) -> list[psutil.Process]:
    """The adopted processes; those that have ended are reaped, as they would stay as zombies."""
    own = {service.process.pid for service in services if service.process}
    adopted = [child for child in psutil.Process().children() if child.pid not in own]
    for child in adopted:
        if child.status() == psutil.STATUS_ZOMBIE:
            os.waitpid(child.pid, os.WNOHANG)
    return [child for child in adopted if child.is_running()]


def end_families(processes: list[psutil.Process], patience: float) -> None:
    """SIGTERM, and after `patience` seconds SIGKILL, to processes and all that they have started."""
    living = processes

    def send(number: signal.Signals) -> None:
        nonlocal living
        living = list({relative for process in living for relative in _family(process)})
        for process in living:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def gone() -> bool:
        nonlocal living
        _, living = psutil.wait_procs(living, timeout=0)
        return not living

    end(send, gone, patience)


def _family(process: psutil.Process) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [process, *process.children(recursive=True)]
    return []
