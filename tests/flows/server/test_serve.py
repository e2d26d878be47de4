"""`make serve` for real, with one toy deployment: a killed worker, SIGKILL, a restart, Ctrl-C."""

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import pytest
from prefect_server import free_port, until
from tiny_inputs import CHECKOUT

TOY = """
import subprocess
from prefect import flow

@flow
def hold() -> None:
    subprocess.run(["sleep", "600"])
"""
DEPLOYMENTS = """
deployments:
  - {name: toy, entrypoint: "toy.py:hold", work_pool: {name: local}}
"""


class Serve:
    """`python -m flows.server` in a workspace."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self.mlflow_port = free_port(), free_port()
        self.output = folder / "output.txt"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
        self.environment = kept | {
            "HOME": str(folder.parent / "home"),
            "PYTHONPATH": str(CHECKOUT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        }
        self.family: list[psutil.Process] = []

    def command(self, port: int, mlflow_port: int) -> list[str]:
        ports = ["--port", str(port), "--mlflow-port", str(mlflow_port)]
        return [sys.executable, "-m", "flows.server", *ports]

    def start(self) -> None:
        """Start and wait until it says that all is ready."""
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                self.command(self.port, self.mlflow_port),
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        until(lambda: "Ctrl-C stops everything" in self.text(), seconds=180, what="make serve")

    def text(self) -> str:
        text = self.output.read_text()
        assert "error" not in text, text
        return text

    def refused(self, port: int, mlflow_port: int, folder: Path) -> tuple[int, str]:
        """Exit status and message of a second one."""
        done = subprocess.run(
            self.command(port, mlflow_port),
            cwd=folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stderr

    def remember_family(self) -> None:
        """Note every process that it has started so far."""
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def named(self, words: str) -> list[psutil.Process]:
        """Its living descendants with these words in their command."""
        found = psutil.Process(self.process.pid).children(recursive=True)
        return [process for process in found if process.is_running() and words in " ".join(process.cmdline())]

    def end(self, number: signal.Signals) -> int:
        """Send a signal to it alone and wait until nothing it started is left."""
        self.remember_family()
        self.process.send_signal(number)
        status = self.process.wait(120)
        until(lambda: not any(map(_lives, self.family)), what="its processes to end")
        return status

    def ask(self, path: str, content: dict[str, Any] | None = None) -> Any:
        """What its Prefect API answers to a GET, or to a POST of `content`."""
        body = None if content is None else json.dumps(content).encode()
        address = f"http://127.0.0.1:{self.port}/api/{path}"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite is busy with another request
                    raise

    def trigger(self) -> None:
        """Run the deployment."""
        deployment = self.ask("deployments/name/hold/toy")["id"]
        self.ask(f"deployments/{deployment}/create_flow_run", {})

    def holds(self, starts: int) -> bool:
        """Whether the run is running for the so many-th time."""
        (run,) = self.ask("flow_runs/filter", {})
        return (run["state_name"], run["run_count"]) == ("Running", starts) and bool(self.named("sleep 600"))


def _lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serve]:
    folder = tmp_path / "workspace"
    folder.mkdir()
    (tmp_path / "home").mkdir()
    (folder / "toy.py").write_text(TOY)
    (folder / "prefect.yaml").write_text(DEPLOYMENTS)
    (folder / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
    serving = Serve(folder)
    serving.start()
    yield serving
    if serving.process.poll() is None:
        serving.process.send_signal(signal.SIGTERM)
        serving.process.wait(120)


def test_serve_outlives_its_worker_goes_on_after_sigkill_and_stops_cleanly(serving: Serve) -> None:
    for port in (serving.port, serving.mlflow_port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert b"<html" in page.read()
        assert f"http://127.0.0.1:{port}  " in serving.text()

    other = serving.folder.parent / "other"
    other.mkdir()
    taken = f"error: port {serving.port} of 127.0.0.1: Address already in use; choose another one with --port\n"
    assert serving.refused(serving.port, free_port(), other) == (2, taken)
    taken = taken.replace(str(serving.port), str(serving.mlflow_port)).replace("--port", "--mlflow-port")
    assert serving.refused(free_port(), serving.mlflow_port, other) == (2, taken)
    status, message = serving.refused(free_port(), free_port(), serving.folder)
    assert (status, message.count("\n")) == (1, 1)
    assert "another `make serve` runs in this workspace" in message

    serving.trigger()
    until(lambda: serving.holds(1), what="the run")
    (sleeper,), (worker,) = serving.named("sleep 600"), serving.named("prefect worker start")
    worker.kill()
    until(lambda: serving.holds(2), what="the run's second start")
    assert not _lives(sleeper)
    assert "worker ended with status -9 and is started again" in serving.text()

    serving.end(signal.SIGKILL)
    serving.start()
    until(lambda: serving.holds(3), what="the run's third start")

    assert serving.end(signal.SIGINT) == 0
    assert re.search(r"\nstopping\nstopped after \d+ (s|min): 1 run will go on at the next start\n$", serving.text())
    with closing(sqlite3.connect(serving.folder / "work" / "prefect" / "prefect.db")) as database:
        (state,) = database.execute("SELECT state_name FROM flow_run").fetchone()
    assert state in ("AwaitingRetry", "Running")  # what the next start goes on with
    assert not list(serving.folder.parent.joinpath("home").rglob("*prefect*"))
