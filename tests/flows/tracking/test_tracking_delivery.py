"""Records on their way to a real MLflow: a SQLite store, and a server that comes and goes."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run
from mlflow_server import MlflowServer
from prefect_server import until
from tiny_inputs import CHECKOUT, TINY_PARAMS

from flows.tracking.delivery import Delivery
from flows.tracking.spool import Spool

STAGE = """
import sys, time
from pathlib import Path
from flows.stages.runner import run_stage
def work(params, run):
    for step in range(int(sys.argv[1])):
        run.log(step, {"loss": 10.0 - step})
        Path("step.new").write_text(str(step))
        Path("step.new").replace("step")  # whoever reads it, at any moment, reads a number
        time.sleep(float(sys.argv[2]))
    Path("out").mkdir(exist_ok=True)
    Path("out/weights").write_text("w")
    Path("metrics.json").write_text('{"test": {"bleu": 33.5, "signature": "x"}, "pairs <= 5": 7}')
run_stage("train", work)
"""
DVC_YAML = {
    "stages": {
        "train": {
            "cmd": "python stage.py",
            "params": ["languages", "training"],
            "deps": ["in.txt"],
            "outs": ["out"],
            "metrics": [{"metrics.json": {"cache": False}}],
        }
    }
}


class Workspace:
    """A folder with one stage, run as a real process."""

    def __init__(self, folder: Path, uri: str | None) -> None:
        self.folder = folder
        self.tracking = folder / "work" / "tracking"
        (folder / "stage.py").write_text(STAGE)
        (folder / "dvc.yaml").write_text(yaml.safe_dump(DVC_YAML))
        (folder / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS))
        (folder / "in.txt").write_text("abc")
        unset = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME")
        self.environment = {key: value for key, value in os.environ.items() if key not in unset}
        self.environment |= {"PYTHONPATH": str(CHECKOUT), "NO_PROXY": "127.0.0.1"} | (
            {"MLFLOW_TRACKING_URI": uri} if uri else {}
        )

    def start(self, steps: int, pause: float) -> "subprocess.Popen[str]":
        """Start the stage; its output is captured, as a caller of dvc would."""
        return subprocess.Popen(
            [sys.executable, "stage.py", str(steps), str(pause)],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def send(self) -> str:
        """Deliver what is left and return what the user sees."""
        command = [sys.executable, "-m", "flows.tracking.send", "--wait"]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True, timeout=120
        )
        return done.stdout


def runs(store: Path) -> list[Run]:
    """All runs in a store, newest first."""
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}")
    return list(client.search_runs([experiment.experiment_id for experiment in client.search_experiments()]))


def steps_of(store: Path, run: Run, metric: str = "loss") -> list[int]:
    """The recorded steps of a metric, in order, repetitions included."""
    history = mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}").get_metric_history(run.info.run_id, metric)
    return sorted(point.step for point in history)


@pytest.fixture
def workspace(tmp_path: Path, empty_store: Path) -> Workspace:
    """A workspace with the embedded store."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    return Workspace(tmp_path, uri=None)


def test_a_stage_is_one_run_with_params_curves_hashes_and_reports(workspace: Workspace) -> None:
    stage = workspace.start(steps=30, pause=0.01)
    _, errors = stage.communicate(timeout=60)
    assert (stage.returncode, errors) == (0, "")
    assert workspace.send().startswith("MLflow: sqlite:///")
    (run,) = runs(workspace.folder / "mlflow.db")
    assert (run.info.run_name, run.info.status) == ("train", "FINISHED")
    assert steps_of(workspace.folder / "mlflow.db", run) == list(range(30))
    assert run.data.metrics["test.bleu"] == 33.5
    assert run.data.metrics["pairs __ 5"] == 7
    assert "system/cpu_utilization_percentage" in run.data.metrics
    assert run.data.params["training.seed"] == "1"
    assert "decoding.beam" not in run.data.params
    # sha256 of "abc", from FIPS 180-2
    assert run.data.tags["input.in.txt"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert {"output.out", "output.metrics.json", "pipeline", "git.commit", "host.torch"} <= set(run.data.tags)
    assert (workspace.folder / "mlartifacts").is_dir()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{workspace.folder}/mlflow.db")
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["metrics.json", "reports"]
    record = json.loads((workspace.folder / "reports" / "lineage" / "train.json").read_text())
    assert (record["runs"]["mlflow"], record["runs"]["spool"]) == (run.info.run_id, run.data.tags["spool"])
    assert run.data.tags["record"] == record["digest"]
    assert list(workspace.tracking.glob("*/events.jsonl")) == []


def test_a_killed_stage_is_a_killed_run_without_output_hashes(workspace: Workspace) -> None:
    stage = workspace.start(steps=1000, pause=0.05)
    until(lambda: (workspace.folder / "step").exists())
    stage.kill()
    stage.communicate()
    workspace.send()
    (run,) = runs(workspace.folder / "mlflow.db")
    assert run.info.status == "KILLED"
    assert run.info.end_time < time.time() * 1000
    assert "input.in.txt" in run.data.tags
    assert not [tag for tag in run.data.tags if tag.startswith("output.")]


def test_a_stopped_stage_says_so_and_is_a_killed_run(workspace: Workspace) -> None:
    stage = workspace.start(steps=1000, pause=0.05)
    until(lambda: (workspace.folder / "step").exists())
    stage.send_signal(signal.SIGTERM)
    _, errors = stage.communicate(timeout=30)
    assert (stage.returncode, errors) == (75, "error: stage train was stopped; start again to continue\n")
    workspace.send()
    (run,) = runs(workspace.folder / "mlflow.db")
    assert (run.info.status, run.data.tags["error"][:17]) == ("KILLED", "KeyboardInterrupt")


def test_a_full_record_sent_twice_is_there_once(tmp_path: Path, empty_store: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copy(empty_store, store)
    spool = Spool.create(tmp_path / "tracking", "train")
    spool.start(uri=f"sqlite:///{store}", experiment="e", name="train", tags={}, params={"a": "1"})
    for step in range(2500):  # more than MLflow takes in one request
        spool.append("metrics", step=step, values={"loss": 1.0 / (step + 1)})
    spool.append("end", status="FINISHED")
    again = shutil.copytree(spool.folder, tmp_path / "tracking" / "copy")
    Delivery(spool).advance()
    assert not spool.folder.exists()
    # The sender died before it could note how far it got.
    again.rename(spool.folder)
    Delivery(spool).advance()
    (run,) = runs(store)
    assert steps_of(store, run) == list(range(2500))


def test_a_run_that_was_deleted_on_the_server_is_given_up(tmp_path: Path, empty_store: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copy(empty_store, store)
    spool = Spool.create(tmp_path / "tracking", "train")
    spool.start(uri=f"sqlite:///{store}", experiment="e", name="train", tags={}, params={})
    Delivery(spool).advance()
    (run,) = runs(store)
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}").delete_run(run.info.run_id)
    spool.append("metrics", step=1, values={"loss": 1.0})
    for _ in range(2):
        with pytest.raises(mlflow.MlflowException):
            Delivery(spool).advance()
    Delivery(spool).advance()
    assert not spool.folder.exists()


def test_a_record_that_the_server_refuses_does_not_hold_up_the_rest(tmp_path: Path, empty_store: Path) -> None:
    store = tmp_path / "mlflow.db"
    shutil.copy(empty_store, store)
    spool = Spool.create(tmp_path / "tracking", "train")
    spool.start(uri=f"sqlite:///{store}", experiment="e", name="train", tags={}, params={})
    spool.append("artifact", name="was never kept")
    spool.append("metrics", step=1, values={"loss": 1.0})
    spool.append("end", status="FINISHED")
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            Delivery(spool).advance()
    Delivery(spool).advance()  # skips it
    Delivery(spool).advance()
    (run,) = runs(store)
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 1.0)


@pytest.fixture
def server(tmp_path: Path, empty_store: Path) -> Iterator[MlflowServer]:
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(empty_store, folder / "server.db")
    server = MlflowServer(folder)
    yield server
    server.stop()


def test_every_step_arrives_once_though_the_server_comes_and_goes(tmp_path: Path, server: MlflowServer) -> None:
    (tmp_path / "w").mkdir()
    workspace = Workspace(tmp_path / "w", server.uri)
    server.start()
    stage = workspace.start(steps=100_000, pause=0.05)
    until(lambda: len(runs(server.store)) == 1 and bool(steps_of(server.store, runs(server.store)[0])))
    server.stop()
    seen = int((workspace.folder / "step").read_text())
    until(lambda: (workspace.tracking / "problem.txt").exists())
    until(lambda: int((workspace.folder / "step").read_text()) > seen + 20)  # the stage works on meanwhile
    server.start()
    until(lambda: steps_of(server.store, runs(server.store)[0])[-1:] > [seen + 20])
    stage.send_signal(signal.SIGTERM)
    stage.communicate(timeout=30)
    workspace.send()
    (run,) = runs(server.store)
    last = int((workspace.folder / "step").read_text())
    steps = steps_of(server.store, run)
    assert steps == list(range(len(steps)))
    assert len(steps) in (last + 1, last + 2)  # the signal may come between the record and the file
    assert run.info.status == "KILLED"


def test_with_the_server_away_stages_work_and_the_user_is_warned_once(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, "http://127.0.0.1:9")  # the discard port: nobody answers
    stage = workspace.start(steps=100_000, pause=0.05)
    until(lambda: (workspace.tracking / "problem.txt").exists() or (workspace.tracking / "problem-told.txt").exists())
    stage.send_signal(signal.SIGTERM)
    _, first = stage.communicate(timeout=60)
    second = workspace.start(steps=3, pause=0.0)
    _, errors = second.communicate(timeout=60)
    assert second.returncode == 0
    assert (first + errors).count("warning: MLflow at http://127.0.0.1:9 can't be reached") == 1
    assert workspace.send().rstrip().endswith(f"can't be reached, 2 runs wait in {workspace.tracking}")
    assert len(list(workspace.tracking.glob("*/events.jsonl"))) == 2
