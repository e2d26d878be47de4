"""`make serve` for real, in a workspace with one toy deployment."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
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

    def __init__(self, folder: Path, **settings: str) -> None:
        """Makes a toy workspace at `folder` where there is none; `settings` are environment variables."""
        self.folder = folder
        if not folder.exists():
            folder.mkdir()
            (folder / "toy.py").write_text(TOY)
            (folder / "prefect.yaml").write_text(DEPLOYMENTS)
            (folder / "pyproject.toml").write_bytes((CHECKOUT / "pyproject.toml").read_bytes())
        (folder.parent / "home").mkdir()
        self.port, self.mlflow_port = free_port(), free_port()
        self.output = folder / "output.txt"
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("PREFECT_", "MLFLOW_"))}
        self.environment = kept | {
            "HOME": str(folder.parent / "home"),
            "PYTHONPATH": str(CHECKOUT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            **settings,
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

    def close(self) -> None:
        """End it where it still runs."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)

    def end(self, number: signal.Signals) -> int:
        """Send a signal to it alone and wait until nothing it started is left."""
        self.remember_family()
        self.process.send_signal(number)
        status = self.process.wait(120)
        until(lambda: not any(map(lives, self.family)), what="its processes to end")
        return status

    def ask(self, path: str, content: dict[str, Any] | None = None) -> Any:
        """What its Prefect API answers to a GET, or to a POST of `content`."""
        body = None if content is None else json.dumps(content).encode()
        address = f"http://127.0.0.1:{self.port}/api/{path}"
        headers = {"Content-Type": "application/json", "Authorization": f"Basic {self.basic()}"}
        request = urllib.request.Request(address, body, headers)
        while True:
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                if error.code != 503:  # SQLite is busy with another request
                    raise

    def key(self) -> str:
        """What its Prefect asks for."""
        return (self.folder / "work" / "prefect" / "key").read_text().strip()

    def basic(self) -> str:
        """The key as HTTP sends it."""
        return base64.b64encode(self.key().encode()).decode()

    def trigger(self) -> None:
        """Run the deployment."""
        deployment = self.ask("deployments/name/hold/toy")["id"]
        self.ask(f"deployments/{deployment}/create_flow_run", {})

    def holds(self, starts: int) -> bool:
        """Whether the run is running for the so many-th time."""
        (run,) = self.ask("flow_runs/filter", {})
        return (run["state_name"], run["run_count"]) == ("Running", starts) and bool(self.named("sleep 600"))


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
