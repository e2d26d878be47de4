"""Records on their way to a real MLflow: a SQLite store, and a server that comes and goes."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import pytest
import yaml
from mlflow.entities import Run
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow_server import MlflowServer
from prefect_server import until
from tiny_inputs import CHECKOUT, TINY_PARAMS

from flows.checkout.workspace import sender_lock
from flows.tracking.delivery import Delivery
from flows.tracking.global_address import tracking_at
from flows.tracking.problem import problem_to_tell
from flows.tracking.send import send_all
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

    def send(self, *options: str, status: int = 0) -> str:
        """Deliver what is left and return what the user sees."""
        command = [sys.executable, "-m", "flows.tracking.send", *(options or ["--wait"])]
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == status
        assert "" in (done.stdout, done.stderr)  # what it did, or why it can't
        return done.stdout or done.stderr


def runs(store: Path) -> list[Run]:
    """All runs of stages in a store, newest first."""
    return [run for run in all_runs(store) if "stage" in run.data.tags]


def all_runs(store: Path) -> list[Run]:
    """Those and the runs of whole pipelines above them."""
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
    spool.start(uri=f"sqlite:///{store}", experiment="e", name="train", tags={"stage": "train"}, params={"a": "1"})
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


@pytest.fixture
def spool(tmp_path: Path, empty_store: Path) -> Spool:
    """A spool whose run is in a SQLite store, and of which more is to be sent."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    spool = Spool.create(tmp_path / "tracking", "train")
    spool.start(
        uri=f"sqlite:///{tmp_path}/mlflow.db",
        experiment="e",
        name="train",
        tags={"stage": "train"},
        params={"a": "1"},
    )
    assert Delivery(spool).advance() is None
    spool.append("metrics", step=1, values={"loss": 1.0})
    spool.append("end", status="FINISHED")
    return spool


def lost_run(client: mlflow.MlflowClient, run: Run) -> None:
    client.delete_run(run.info.run_id)


def lost_experiment(client: mlflow.MlflowClient, run: Run) -> None:
    client.delete_experiment(run.info.experiment_id)


def lost_both(client: mlflow.MlflowClient, run: Run) -> None:
    lost_run(client, run)
    lost_experiment(client, run)


def lost_for_good(client: mlflow.MlflowClient, run: Run) -> None:
    lost_run(client, run)
    SqlAlchemyStore(client.tracking_uri, "mlruns")._hard_delete_run(run.info.run_id)  # what `mlflow gc` does


@pytest.mark.parametrize("lose", [lost_run, lost_experiment, lost_both, lost_for_good])
def test_what_was_deleted_in_mlflow_is_there_again_with_all_its_records(
    spool: Spool, lose: Callable[[mlflow.MlflowClient, Run], None]
) -> None:
    store = Path(Delivery(spool).uri.removeprefix("sqlite:///"))
    (run,) = runs(store)
    lose(mlflow.MlflowClient(tracking_uri=f"sqlite:///{store}"), run)
    while Delivery(spool).advance():
        pass
    (run,) = runs(store)
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"loss": 1.0}, {"a": "1"})
    assert not spool.folder.exists()


def test_a_store_that_was_replaced_gets_everything(spool: Spool, empty_store: Path) -> None:
    store = Path(Delivery(spool).uri.removeprefix("sqlite:///"))
    renewed = store.with_name("renewed.db")
    shutil.copy(empty_store, renewed)
    spool.redirect(f"sqlite:///{renewed}")
    assert Delivery(spool).advance() is None
    (run,) = runs(renewed)
    assert (run.info.status, run.data.metrics, run.data.params) == ("FINISHED", {"loss": 1.0}, {"a": "1"})


def test_a_record_that_the_server_refuses_is_kept_and_does_not_hold_up_the_rest(spool: Spool) -> None:
    before = spool.folder / "events.jsonl"
    *head, metrics, end = before.read_text().splitlines(keepends=True)
    refused = [json.dumps({"event": "tags", "time": 1, "tags": {"a" * 300: "x"}}) + "\n"] * 20
    missing = json.dumps({"event": "artifact", "time": 1, "name": "was never kept"}) + "\n"
    before.write_text("".join([*head, *refused, missing, "{broken\n", metrics, end]))
    problems = send_all(spool.folder.parent, linger=0.0, patience=0.0)
    (run,) = runs(Path(Delivery(spool).uri.removeprefix("sqlite:///")))
    assert (run.info.status, run.data.metrics["loss"]) == ("FINISHED", 1.0)
    assert [problem.what for problem in problems] == ["refuses"]
    assert len(spool.position().refused) == 22
    line = problem_to_tell(spool.folder.parent)
    assert line is not None
    assert line.startswith("MLflow at sqlite:///")
    assert "refuses records of 1 run, which wait in " in line
    # Once the server takes them, all arrive.
    taken = f'"{"a" * 200}": "{"x" * 101}"'  # as long, so that every event stays where it is
    before.write_text(before.read_text().replace(f'"{"a" * 300}": "x"', taken))
    assert send_all(spool.folder.parent, linger=0.0, patience=0.0)
    assert len(spool.position().refused) == 2
    (run,) = runs(Path(Delivery(spool).uri.removeprefix("sqlite:///")))
    assert (run.info.status, run.data.tags["a" * 200]) == ("FINISHED", "x" * 101)


def write_three_spools(tracking: Path, uri: str) -> None:
    for _ in range(3):
        spool = Spool.create(tracking, "train")
        spool.start(uri=uri, experiment="e", name="train", tags={"stage": "train"}, params={"a": "x" * 5000})
        for step in range(300):
            spool.append("metrics", step=step, values={"loss": 1.0 / (step + 1)})
        spool.append("end", status="FINISHED")


def test_a_full_disk_of_the_server_loses_nothing_and_send_says_so(tmp_path: Path, server: MlflowServer) -> None:
    (tmp_path / "w").mkdir()
    workspace = Workspace(tmp_path / "w", server.uri)
    server.start()
    server.limit_files(server.store.stat().st_size)
    context = multiprocessing.get_context("fork")
    stage = context.Process(target=write_three_spools, args=(workspace.tracking, server.uri))
    stage.start()
    stage.join()
    said = workspace.send(status=1)
    assert said.startswith(f"MLflow at {server.uri} fails; records of 3 runs wait in {workspace.tracking}")
    assert said.count("\n") == 1
    server.limit_files(None)
    assert workspace.send() == f"MLflow: {server.uri}: records of 3 runs sent\n"
    assert [steps_of(server.store, run) for run in runs(server.store)] == [list(range(300))] * 3
    assert [run.info.status for run in runs(server.store)] == ["FINISHED"] * 3


def test_records_of_a_server_that_is_gone_go_to_another_one(workspace: Workspace) -> None:
    gone = "http://127.0.0.1:9"  # the discard port: nobody answers
    workspace.environment["MLFLOW_TRACKING_URI"] = gone
    stage = workspace.start(steps=3, pause=0.0)
    stage.communicate(timeout=60)
    del workspace.environment["MLFLOW_TRACKING_URI"]
    assert workspace.send(status=1).startswith(f"MLflow at {gone} can't be reached; records of 1 run wait")
    wrong = workspace.send("--to", "somewhere", status=2)
    assert wrong == "error: --to somewhere: not a tracking URI, as http://host:5000 or sqlite:///mlflow.db is one\n"
    there = f"sqlite:///{workspace.folder}/mlflow.db"
    token = workspace.send("--to", "http://TOKEN@127.0.0.1:9", status=2)
    assert token.startswith("error: MLFLOW_TRACKING_URI holds a password")
    assert "TOKEN" not in token
    assert workspace.send("--to", there) == f"MLflow: {there}: records of 1 run sent\n"
    (run,) = runs(workspace.folder / "mlflow.db")
    assert (run.info.status, steps_of(workspace.folder / "mlflow.db", run)) == ("FINISHED", [0, 1, 2])
    assert workspace.send() == f"MLflow: {there}: nothing waits\n"


def test_a_model_is_registered_and_loads_below_a_folder_with_an_escape_in_its_name(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "50%20 ü&1"
    (folder / "model").mkdir(parents=True)
    monkeypatch.chdir(folder)  # where its store keeps artifacts
    (folder / "code").mkdir()
    (folder / "model" / "weights").write_text("w")
    shutil.copy(empty_store, folder / "mlflow.db")
    spool = Spool.create(folder / "tracking", "average")
    spool.start(uri=f"sqlite:///{folder}/mlflow.db", experiment="e", name="average", tags={}, params={})
    spool.keep(folder / "model", "model")
    spool.keep(folder / "code", "code/transformer")
    spool.append("model", name="m", sha256="0" * 64)
    spool.append("end", status="FINISHED")
    assert Delivery(spool).advance() is None
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    (version,) = client.search_model_versions("name = 'm'")
    assert version.tags["sha256"] == "0" * 64
    assert "MLFLOW_TRACKING_URI" not in os.environ  # which MLflow sets: the next record's may be another server
    with tracking_at(client.tracking_uri):
        copy = Path(mlflow.artifacts.download_artifacts("models:/m/1", dst_path=str(tmp_path / "copy")))
        logged = mlflow.models.get_model_info(str(copy))
    assert (copy / "artifacts" / "model" / "weights").read_text() == "w"
    assert (str(logged.signature.inputs), str(logged.signature.outputs)) == ("[string (required)]",) * 2
    assert json.loads((copy / "serving_input_example.json").read_text())["inputs"]


def test_records_that_wait_move_with_their_workspace(workspace: Workspace) -> None:
    with sender_lock(workspace.tracking):  # so that nothing is sent yet
        stage = workspace.start(steps=3, pause=0.0)
        stage.communicate(timeout=60)
    moved = workspace.folder.with_name("moved")
    workspace.folder.rename(moved)
    old, workspace.folder = workspace.folder, moved
    assert workspace.send() == f"MLflow: sqlite:///{moved}/mlflow.db: records of 1 run sent\n"
    assert not old.exists()
    (run,) = runs(moved / "mlflow.db")
    assert run.info.artifact_uri.startswith(moved.as_uri())
    record = json.loads((moved / "reports" / "lineage" / "train.json").read_text())
    assert record["runs"]["mlflow"] == run.info.run_id


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
    said = workspace.send(status=1)
    assert said.startswith(
        f"MLflow at {workspace.environment['MLFLOW_TRACKING_URI']} can't be reached; records of 2 runs"
    )
    assert len(list(workspace.tracking.glob("*/events.jsonl"))) == 2
