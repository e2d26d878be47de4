"""The flow without a server, on real training: the same as `dvc repro`, in outputs, dvc.lock and MLflow's records."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from mlflow.entities import Run
from prefect_server import until
from tiny_inputs import CHECKOUT
from workspace import STAGES, Workspace, tiny_checkout

from flows.processes.groups import members
from transformer.files import sha256_of

OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1,localhost"}


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A fresh checkout in which the flow has run without a server or a network, and what it printed."""
    made = tiny_checkout(tmp_path_factory.mktemp("flow") / "checkout")
    made.environment |= OFFLINE
    return made, made.run("python", "-m", "flows.pipeline")


def test_the_flow_tells_what_it_does(flow: tuple[Workspace, str]) -> None:
    _, printed = flow
    assert "train: Running stage 'train':" in printed
    assert "update 40/40" in printed
    completed = [line for line in printed.splitlines() if line.endswith(": completed")]
    assert sorted(completed) == sorted(f"{stage}: completed" for stage in STAGES)
    assert "Traceback" not in printed


def test_outputs_and_lock_are_those_of_dvc_repro(flow: tuple[Workspace, str], reproduced: Workspace) -> None:
    workspace, _ = flow
    # Parsed, as stages that need nothing of each other end, and are written down, in either order.
    ours, theirs = (yaml.safe_load((one.folder / "dvc.lock").read_text()) for one in (workspace, reproduced))
    assert ours == theirs
    for name in ("data/corpus", "data/tokens", "models", "reports/translations", "reports/curves"):
        assert sha256_of(workspace.folder / name) == sha256_of(reproduced.folder / name), name
    assert workspace.repro() == []


def described(run: Run) -> tuple[Any, ...]:
    """What a run says of its stage, without ids, times and the machine's load."""
    hashes = {key: value for key, value in run.data.tags.items() if key.partition(".")[0] in ("input", "output")}
    metrics = {key for key in run.data.metrics if not key.startswith("system/")}
    return run.data.tags["stage"], run.info.status, run.data.params, hashes, metrics


def stage_of(run: Run) -> str:
    return str(run.data.tags["stage"])


def test_mlflow_holds_what_it_holds_after_dvc_repro(flow: tuple[Workspace, str], reproduced: Workspace) -> None:
    workspace, _ = flow
    runs = workspace.mlflow_runs()
    runs.sort(key=stage_of)  # stages that need nothing of each other begin together
    theirs = sorted(reproduced.mlflow_runs(), key=stage_of)
    assert list(map(described, runs)) == list(map(described, theirs))
    assert len({run.data.tags["pipeline"] for run in runs}) == 1
    client = workspace.mlflow_client()
    for ours, other in zip(runs, theirs, strict=True):
        curves = [
            [(point.step, point.value) for point in holder.get_metric_history(run.info.run_id, "train/loss")]
            for holder, run in ((client, ours), (reproduced.mlflow_client(), other))
        ]
        assert curves[0] == curves[1]


def test_the_records_name_the_flow_run(flow: tuple[Workspace, str], reproduced: Workspace) -> None:
    workspace, _ = flow
    records = [json.loads((workspace.folder / "reports/lineage" / f"{stage}.json").read_text()) for stage in STAGES]
    assert len({record["runs"]["prefect_flow_run"] for record in records}) == 1
    assert len({record["runs"]["prefect_task_run"] for record in records}) == len(STAGES)
    by_hand = json.loads((reproduced.folder / "reports" / "lineage" / "train.json").read_text())
    assert by_hand["runs"]["prefect_flow_run"] is None


def test_ctrl_c_in_a_terminal_spares_the_temporary_server_until_the_end_is_told(
    tmp_path: Path, prefect_database: Path
) -> None:
    command = "trap 'touch saved; exit 75' TERM; touch begun; while true; do sleep 0.1; done"
    folder = tmp_path / "workspace"
    (folder / ".dvc").mkdir(parents=True)
    (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"train": {"cmd": command}}}))
    environment = Workspace(folder).environment | {"PYTHONPATH": str(CHECKOUT)} | OFFLINE
    Path(environment["PREFECT_HOME"]).mkdir()
    shutil.copy(prefect_database, environment["PREFECT_HOME"])
    with (tmp_path / "output").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.pipeline"],
            cwd=folder,
            env=environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    until((folder / "begun").exists, what="the stage")
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(60) == 75
    printed = (tmp_path / "output").read_text()
    assert printed.count("error: ") == 1
    assert "error: the pipeline was stopped; start again to continue" in printed
    assert "Traceback" not in printed
    assert (folder / "saved").exists()
    until(lambda: not members(process.pid), what="the end of the temporary server")
