"""A temporary git checkout of this project with a tiny corpus, and the commands a user types in it."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import mlflow
import pytest
from mlflow.entities import Run
from tiny_inputs import copy_checkout, write_tiny_inputs

from transformer.files import private_folder

STAGES = ["download", "prepare", "parent", "tokenize", "train", "average", "export", "evaluate"]
OUTER_VARIABLES = ("MLFLOW_TRACKING_URI", "PYTHONPATH", "DVC_ROOT", "GIT_DIR", "TRANSFORMER_WORKSPACE")


def own_temporary_folder() -> Path:
    """With the locks of devices: tests neither wait for a training of the user's nor keep one waiting."""
    folder = Path(tempfile.gettempdir(), "transformer-tests")
    folder.mkdir(exist_ok=True)
    return folder


class Workspace:
    """A copy of the checkout and the commands a user types in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        site_cache = private_folder(folder.parent / "site-cache")  # DVC itself would make it writable by all
        kept = {
            key: value
            for key, value in os.environ.items()
            if key not in OUTER_VARIABLES and not key.startswith("PREFECT_")
        }
        self.environment = kept | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(site_cache),
            "PREFECT_HOME": str(folder.parent / "prefect-home"),
            "TMPDIR": str(own_temporary_folder()),
            "PYTHONUNBUFFERED": "1",
        }

    def enter(self, monkeypatch: pytest.MonkeyPatch) -> "Workspace":
        """Make it the current folder of this process, as a user's shell would; returns it."""
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        monkeypatch.setenv("DVC_SITE_CACHE_DIR", self.environment["DVC_SITE_CACHE_DIR"])
        monkeypatch.chdir(self.folder)
        return self

    def run(self, *command: str, succeeds: bool = True, seconds: float = 280) -> str:
        """Run a command, for so long at most, and return all that it prints."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
        )
        assert (done.returncode == 0) == succeeds, done.stdout
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        return self.run("git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments)

    def repro(self, *arguments: str) -> list[str]:
        """Run `dvc repro` and name the stages that ran."""
        lines = self.dvc("repro", *arguments).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def send(self) -> None:
        """Have every waiting record delivered to MLflow."""
        self.run(sys.executable, "-m", "flows.tracking.send", "--wait")

    def mlflow_client(self) -> mlflow.MlflowClient:
        """A client of the embedded store."""
        return mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.folder}/mlflow.db")

    def mlflow_runs(self) -> list[Run]:
        """Every recorded run of a stage, oldest first."""
        self.send()
        client = self.mlflow_client()
        experiment = client.get_experiment_by_name("transformer-en-de")
        assert experiment is not None
        runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time"])
        return [run for run in runs if "stage" in run.data.tags]  # not those of whole pipelines

    def copy_to(self, folder: Path) -> "Workspace":
        """The same workspace elsewhere, with its DVC cache, outputs, git history and MLflow store.

        Run ids stay; MLflow's artifact addresses follow at the next command that opens the store.
        """
        shutil.copytree(self.folder, folder, symlinks=True)
        return Workspace(folder)


def tiny_files(folder: Path) -> Workspace:
    """The checkout without git, as a source tarball holds it, with a tiny corpus and tiny params, nothing run yet."""
    folder.mkdir(parents=True)
    made = Workspace(copy_checkout(folder))
    (folder / "dvc.lock").unlink(missing_ok=True)
    shutil.rmtree(folder / "reports", ignore_errors=True)
    shutil.rmtree(folder / ".venv", ignore_errors=True)
    write_tiny_inputs(folder)
    return made


def tiny_checkout(folder: Path) -> Workspace:
    """A git checkout with a tiny corpus and tiny params, committed, nothing run yet."""
    made = tiny_files(folder)
    made.git("init", "-b", "main")
    made.git("config", "user.name", "t")  # which `dvc exp run` wants, and a machine may not have
    made.git("config", "user.email", "t@example.org")
    made.git("add", ".")
    made.git("commit", "-m", "tiny")
    return made
