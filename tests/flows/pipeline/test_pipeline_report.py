"""The report that a flow run leaves in Prefect: its links lead to pages and files that exist."""

import json
from pathlib import Path

import mlflow
import pytest
from workspace import STAGES, Workspace

from flows.checkout.workspace import MLFLOW_UI_VARIABLE
from flows.pipeline.report import report

COMPLETED = dict.fromkeys(STAGES, "Completed")


def run_of(workspace: Workspace, stage: str) -> str:
    """The MLflow run that the stage's record names."""
    record = json.loads((workspace.folder / "reports" / "lineage" / f"{stage}.json").read_text())
    return str(record["runs"]["mlflow"])


def rows(workspace: Workspace, outcomes: dict[str, str]) -> dict[str, str]:
    """Stage -> the cell with its run."""
    lines = [line.split(" | ") for line in report(workspace.folder, outcomes).splitlines() if line.startswith("| ")]
    return {line[0].removeprefix("| "): line[2].removesuffix(" |") for line in lines if len(line) == 3}


@pytest.fixture
def workspace(reproduced: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    made = reproduced.copy_to(tmp_path / "checkout")
    monkeypatch.chdir(made.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return made


def test_runs_are_linked_where_they_are_shown(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    client = workspace.mlflow_client()
    experiment = client.get_experiment_by_name("transformer-en-de").experiment_id
    run = run_of(workspace, "train")
    page = f"/#/experiments/{experiment}/runs/{run}"
    assert rows(workspace, COMPLETED)["train"] == f"[{run[:8]}](<http://127.0.0.1:5000{page}>)"
    monkeypatch.setenv(MLFLOW_UI_VARIABLE, "http://127.0.0.1:5001")  # as `make serve SERVE='--mlflow-port 5001'`
    assert rows(workspace, COMPLETED)["train"] == f"[{run[:8]}](<http://127.0.0.1:5001{page}>)"


def test_runs_that_are_gone_are_not_linked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted, run = run_of(workspace, "train"), run_of(workspace, "average")
    workspace.mlflow_client().delete_run(deleted)
    assert rows(workspace, COMPLETED)["train"] == f"{deleted[:8]}, deleted in MLflow"
    other = workspace.folder.parent / "other.db"
    mlflow.MlflowClient(tracking_uri=f"sqlite:///{other}").search_experiments()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{other}")
    assert rows(workspace, COMPLETED)["average"] == f"{run[:8]}, no longer in MLflow"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    assert rows(workspace, COMPLETED)["average"] == f"{run[:8]}, MLflow does not answer"


def test_a_restored_stage_names_no_other_results_run(workspace: Workspace) -> None:
    path = workspace.folder / "dvc.lock"
    model = json.loads((workspace.folder / "reports" / "lineage" / "average.json").read_text())["outputs"][0]["md5"]
    path.write_text(path.read_text().replace(model, f"{'0' * 32}.dir"))
    cells = rows(workspace, {**COMPLETED, "average": "Restored"})
    assert cells["average"] == "made earlier, restored from DVC's cache"
    assert cells["train"].startswith("[")


def test_the_reports_of_a_retraining_are_on_its_branch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"(<file://{workspace.folder}/reports>)" in report(workspace.folder, COMPLETED)
    workspace.git("switch", "--quiet", "-c", "retraining/2026-11-26-abc")
    monkeypatch.setenv("TRANSFORMER_WORKSPACE", str(workspace.folder.parent))
    text = report(workspace.folder, COMPLETED)
    assert "git show retraining/2026-11-26-abc:reports/metrics.json" in text
    assert "file://" not in text
