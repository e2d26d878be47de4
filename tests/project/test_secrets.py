"""Ten secrets are planted where people keep them; pipeline, retrainings, failures and `make serve` leak none.

Searched is every byte that is written below the test's folder (which is HOME and TMPDIR too), what is printed, what
git holds, and the command lines of all processes meanwhile, but for what the user planted and the key's own file.
"""

import base64
import gzip
import io
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psutil
import pytest
import yaml
from mlflow_server import MlflowServer
from prefect_server import until
from serving import Serve
from workspace import STAGES, Workspace, tiny_checkout

from transformer.files import private_folder

NAMES = (
    "tracking-password", "s3-key", "s3-secret", "s3-session", "prefect-key", "webhook-path", "mirror-password",
    "git-token", "dvc-password", "index-password",
)  # fmt: skip
SECRETS = {name: f"Zq7{number}plantedX{name}"[:40] for number, name in enumerate(NAMES)}
NOBODY = "127.0.0.1:9"  # the discard port: nobody answers


def forms(secret: str) -> set[bytes]:
    """A secret as it may be written: plainly, in an address, in base64 (of `admin:secret` too, at any offset)."""
    found = {secret.encode(), quote(secret, safe="").encode()}
    for before in (b"", b"x", b"xx", b"admin:", b"bob:"):
        encoded = base64.b64encode(before + secret.encode())
        found.add(encoded[4:-4])
    return found


def leaks(content: bytes, where: str) -> list[str]:
    """Which secrets the bytes hold, also where they are packed."""
    found = [
        f"{name} in {where}" for name, secret in SECRETS.items() if any(form in content for form in forms(secret))
    ]
    with suppress(OSError, EOFError):
        if content[:2] == b"\x1f\x8b":
            found += leaks(gzip.decompress(content), f"{where} (gzip)")
    if content[:4] == b"PK\x03\x04":
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(content)) as members:
            for name in members.namelist():
                found += leaks(members.read(name), f"{where}:{name}")
    return found


def leaks_below(folder: Path, planted: set[Path]) -> list[str]:
    """What the files below a folder leak, and their names."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.is_symlink() and path not in planted:
            name = str(path.relative_to(folder))
            found += leaks(path.read_bytes(), name) + leaks(name.encode(), "the name of a file")
    return found


class Titles(threading.Thread):
    """Looks at the command lines of all processes of this machine until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.found: set[str] = set()
        self.looks = 0
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.2):
            self.looks += 1
            for process in psutil.process_iter():
                with suppress(psutil.Error):
                    line = " ".join(process.cmdline()) + process.name()
                    self.found.update(leaks(line.encode(), f"the command line {line}"))


@contextmanager
def watched_titles() -> Iterator[Titles]:
    titles = Titles()
    titles.start()
    yield titles
    titles.stopped.set()
    titles.join()


def plant(workspace: Workspace, tracking: str) -> dict[str, str]:
    """Put the secrets where people keep them; returns the environment that holds the others."""
    registry = workspace.folder / "data" / "corpora.yaml"
    content = yaml.safe_load(registry.read_text())
    files = {f"a.{side}": {"url": f"https://example.org/a.{side}", "sha256": "0" * 64} for side in ("en", "de")}
    parts = [{"name": "far", "format": "lines", "file": "a.{language}"}]
    content["far"] = {
        "licence": "none", "citation": "none", "languages": ["en", "de"], "files": files, "parts": parts
    }  # fmt: skip
    registry.write_text(yaml.safe_dump(content))
    workspace.git("commit", "--quiet", "-am", "a corpus that nobody has")
    workspace.git("remote", "add", "origin", f"https://x:{SECRETS['git-token']}@{NOBODY}/project.git")
    workspace.dvc("remote", "add", "--local", "far", f"https://x:{SECRETS['dvc-password']}@{NOBODY}/store")
    workspace.dvc("remote", "modify", "--local", "far", "password", SECRETS["dvc-password"])
    return {
        "MLFLOW_TRACKING_URI": tracking.replace("://", f"://bob:{SECRETS['tracking-password']}@"),
        "AWS_ACCESS_KEY_ID": SECRETS["s3-key"],
        "AWS_SECRET_ACCESS_KEY": SECRETS["s3-secret"],
        "AWS_SESSION_TOKEN": SECRETS["s3-session"],
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{SECRETS['prefect-key']}",
        "TRANSFORMER_MIRROR": f"http://bob:{SECRETS['mirror-password']}@{NOBODY}",
        "PIP_INDEX_URL": f"http://bob:{SECRETS['index-password']}@{NOBODY}/simple",
    }


WITH_PIP = """
from transformer.data.download.transfer import Patience, WheelDownloader
WheelDownloader("no-such-package==1", "3.11", "0" * 64, Patience(0, 1.0, lambda seconds: None))("", "wheel.whl", None)
"""


class Operator:
    """What a person does with `make serve`, and everything that was printed."""

    def __init__(self, serving: Serve, workspace: Workspace) -> None:
        self.serving, self.workspace = serving, workspace
        self.printed: list[str] = []

    def type(self, *command: str, succeeds: bool = True, typed: str = "") -> None:
        """Run a command in the workspace with the environment of the server's clients."""
        environment = self.workspace.environment | {
            "PREFECT_API_URL": f"http://127.0.0.1:{self.serving.port}/api",
            "PREFECT_API_AUTH_STRING": self.serving.key(),
        }
        done = subprocess.run(
            [sys.executable, *command], cwd=self.workspace.folder, env=environment, input=typed, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280,
        )  # fmt: skip
        assert (done.returncode == 0) == succeeds, done.stdout
        self.printed.append(done.stdout)

    def retrain(self, **parameters: Any) -> str:
        """Run the deployment; returns the name of its last state."""
        deployment = self.serving.ask("deployments/name/retraining/retraining")["id"]
        made = self.serving.ask(f"deployments/{deployment}/create_flow_run", {"parameters": parameters})
        ends = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
        until(lambda: self.serving.ask(f"flow_runs/{made['id']}")["state_type"] in ends, 420, "the retraining")
        return str(self.serving.ask(f"flow_runs/{made['id']}")["state_name"])

    def pages(self) -> list[str]:
        """What the API tells whoever has the key, secrets of blocks as the UI gets them."""
        filters = ("flow_runs", "task_runs", "artifacts", "logs", "deployments", "block_documents", "automations")
        found = [str(self.serving.ask(f"{name}/filter", {})) for name in filters]
        return [*found, str(self.serving.ask("events/filter", {"filter": {}, "limit": 50}))]


def test_the_search_finds_what_is_there(tmp_path: Path) -> None:
    secret = SECRETS["s3-key"]
    basic = base64.b64encode(f"bob:{secret}".encode()).decode()
    for number, text in enumerate([f"a {secret} b", f"Authorization: Basic {basic}", quote(secret, safe="")]):
        (tmp_path / f"{number}.txt").write_text(text)
        (tmp_path / f"{number}.gz").write_bytes(gzip.compress(text.encode()))
    (tmp_path / secret).touch()
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner", secret)
    with watched_titles() as titles:
        subprocess.run([sys.executable, "-c", "import time; time.sleep(1)", secret], check=True)
    assert len(leaks_below(tmp_path, set())) == 8
    assert len(titles.found) == 1


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_no_secret_is_written_printed_or_shown(tmp_path: Path) -> None:
    workspace = tiny_checkout(tmp_path / "checkout")
    (tmp_path / "mlflow").mkdir()
    tracking = MlflowServer(tmp_path / "mlflow")
    tracking.start()
    try:
        secrets = plant(workspace, tracking.uri)
        places = {"TMPDIR": str(private_folder(tmp_path / "tmp")), "HOME": str(tmp_path / "home")}
        workspace.environment |= secrets | places
        serving = Serve(workspace.folder, **workspace.environment)
        operator = Operator(serving, workspace)
        with watched_titles() as titles:
            printed = [workspace.dvc("repro")]
            printed += [workspace.run(sys.executable, "-m", "flows.tracking.send", "--wait")]
            serving.start()
            try:
                printed += work_and_fail(operator)
            finally:
                serving.close()
            printed += [serving.output.read_text(), *operator.printed]
        assert len(tracked_stages(tracking)) >= len(STAGES)
    finally:
        tracking.stop()
    assert titles.looks > 50
    assert titles.found == set()
    assert leaks("\n".join(printed).encode(), "what was printed") == []
    assert leaks(workspace.git("log", "--all", "-p").encode(), "git's history") == []
    planted = {workspace.folder / name for name in (".git/config", ".dvc/config.local", "work/prefect/key")}
    assert leaks_below(tmp_path, planted) == []
    assert open_to_others(workspace.folder / "work") == []


def work_and_fail(operator: Operator) -> list[str]:
    """A webhook that can't be reached, a retraining that succeeds, three failures, and all that shows the results."""
    hook = f"http://{NOBODY}/{SECRETS['webhook-path']}\n"
    operator.type("-m", "flows.server.automations", "--webhook", typed=hook)
    assert operator.retrain(overrides={"training.updates": 30}) == "Completed"
    assert operator.retrain(overrides={"download.corpora": ["tiny", "far"]}) == "Failed"
    assert "could not be fetched" in str(operator.serving.ask("logs/filter", {"sort": "TIMESTAMP_DESC"}))
    operator.type("-c", WITH_PIP, succeeds=False)
    assert "could not be fetched with pip" in operator.printed[-1]
    operator.type("-m", "dvc", "push", "--remote", "far", succeeds=False)
    dvc_said = operator.printed.pop()  # DVC's own words to the person who configured that remote
    assert "127.0.0.1" in dvc_said
    for command in ("flows.promotion", "flows.summary", "flows.pipeline", "flows.tracking.send"):
        operator.type("-m", command)
    operator.type("-m", "flows.lineage", "show", "models/averaged", "--html", "work/page.html")
    until(lambda: "tell-bad-ends" in str(operator.serving.ask("automations/filter", {})), 60, "the automations")
    return operator.pages()


def tracked_stages(tracking: MlflowServer) -> list[str]:
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tracking.store}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    tags = [run.data.tags for run in client.search_runs(experiments)]
    return [one["stage"] for one in tags if "stage" in one]  # the others are of whole pipelines


def open_to_others(work: Path) -> list[str]:
    """What of the state others could read: the folder itself, or a file of Prefect's or of the records."""
    private = [
        work,
        work / "prefect",
        *(work / "prefect").rglob("*"),
        work / "tracking",
        *(work / "tracking").glob("*"),
    ]
    return [str(path) for path in private if path.exists() and os.stat(path).st_mode & 0o077]
