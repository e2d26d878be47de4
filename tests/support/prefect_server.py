"""A real Prefect server as `make serve` runs it: on loopback, with a key, a home and a port of its own."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from flows.server.key import key_settings

CHECKOUT = Path(__file__).parents[2]
KEY = "admin:a-key-of-the-tests"


def until(condition: Callable[[], bool], seconds: float = 120.0, what: str = "something") -> None:
    """Wait for a condition that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.25)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class PrefectServer:
    """The server, its folder, and the environment that makes children talk to it."""

    def __init__(self, folder: Path, database: Path | None = None, **settings: str) -> None:
        """`database` is copied to begin with; `settings` are environment variables of the server and its clients."""
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/api"
        self.log = folder / "server.log"
        self.settings = {
            "PREFECT_API_URL": self.url,
            "PREFECT_HOME": str(folder / "home"),
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "true",
            "PREFECT_SERVER_UI_ENABLED": "false",
            "NO_PROXY": "127.0.0.1",
            **key_settings(KEY, self.url.removesuffix("/api")),
            **settings,
        }
        if database is not None:
            (folder / "home").mkdir()
            shutil.copy(database, folder / "home")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment with the server's settings on top; copy it before changing it."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("PREFECT_")}
        return kept | self.settings

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "flows.server.web", "prefect", "--port", str(self.port)]
        with self.log.open("a") as log:
            self._process = subprocess.Popen(
                command,
                cwd=CHECKOUT,  # pyproject.toml holds settings of the server
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers, what=f"the Prefect server, see {self.log}")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self.log.read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def stop(self) -> None:
        """SIGTERM to the server and all it started; SIGKILL to what is left after 20 seconds."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Stop it and start it again on the same port, with the same database."""
        self.stop()
        self.start()

    @cached_property
    def client(self) -> SyncPrefectClient:
        """A synchronous client, kept open: a new one costs here and in the server what twenty requests cost."""
        with self.connected():
            return get_client(sync_client=True).__enter__()

    def connected(self) -> AbstractContextManager[object]:
        """Prefect in this process talks to the server during the body."""
        return temporary_settings({PREFECT_API_URL: self.url, PREFECT_API_AUTH_STRING: KEY})


class Worker:
    """`prefect worker start` for a pool of type process."""

    def __init__(self, server: PrefectServer, pool: str, folder: Path, environment: dict[str, str]) -> None:
        """`folder` and `environment` are those of the flow runs too."""
        self.pool, self.folder = pool, folder
        self.environment = environment | server.settings | {"PREFECT_WORKER_QUERY_SECONDS": "1"}
        self.log = folder.parent / f"worker-{pool}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it takes runs once it has connected."""
        command = [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool, "--type", "process"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [*command, "--install-policy", "never"],
                cwd=self.folder,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def end(self, number: signal.Signals) -> None:
        """Send a signal to the worker alone and wait for its end."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(90)
            self.process = None
