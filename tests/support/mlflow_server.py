"""A real MLflow server on the loopback interface, for outages of any length."""

import os
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import mlflow
import psutil
from prefect_server import free_port, until


class MlflowServer:
    """`mlflow server` with one worker, its store and its artifacts below a folder unless told otherwise."""

    def __init__(self, folder: Path, store: str = "", artifacts: str = "", **settings: str) -> None:
        """`store` and `artifacts` are addresses; `settings` are further environment variables."""
        self.folder = folder
        self.store = folder / "server.db"
        self.places = [store or f"sqlite:///{self.store}", artifacts or str(folder / "a")]
        self.settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **settings}
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--host", "127.0.0.1"]
        places = ["--backend-store-uri", self.places[0], "--artifacts-destination", self.places[1]]
        with (self.folder / "server.log").open("a") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), *places],
                env=os.environ | self.settings,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(self._answers)

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def limit_files(self, size: int | None) -> None:
        """Let no file of the server grow beyond `size` bytes, as on a full disk; None: let all grow again."""
        assert self._process is not None
        server = psutil.Process(self._process.pid)
        for process in [server, *server.children(recursive=True)]:
            soft = resource.RLIM_INFINITY if size is None else size
            process.rlimit(psutil.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    def stop(self) -> None:
        """Kill it with its workers."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


def write_empty_store(folder: Path) -> None:
    """MLflow's SQLite store, migrated and empty, as mlflow.db in a new folder."""
    folder.mkdir()
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db").search_experiments()
