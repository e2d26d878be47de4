"""The Markdown artifact that a flow run leaves: the outcome of each stage, the scores, and links."""

import json
import os
import time
from pathlib import Path
from urllib.parse import quote

from prefect import get_run_logger
from prefect.artifacts import create_markdown_artifact

from flows.checkout.git import Git
from flows.checkout.workspace import LOCK, MLFLOW_UI_VARIABLE, REPORTS, main_workspace, tracking_uri
from flows.markdown import plain, scores_table, table
from flows.pipeline.stage_process import Outcome
from flows.records.dvc_files import read_lock
from flows.records.record import md5s, parse_record, record_path
from transformer.errors import DataError
from transformer.evaluation.published import beside_published, full_name

MLFLOW_UI = "http://127.0.0.1:5000"  # of `make ui`
KEY = "pipeline"
PATIENCE_SECONDS = 10.0  # to wait for the delivery of the last records to MLflow
POLL_SECONDS = 0.2


def publish_report(workspace: Path, outcomes: dict[str, str]) -> None:
    """Write the artifact; waits a little for the MLflow runs of the stages that ran, so that it can link to them."""
    executed = [stage for stage, outcome in outcomes.items() if outcome == Outcome.COMPLETED]
    _wait_for_delivery(workspace, executed)
    try:
        create_markdown_artifact(report(workspace, outcomes), key=KEY, description="Stages, scores and links")
    except Exception as error:  # the stages are done; a server that is down must not undo that
        get_run_logger().warning("the report is not in Prefect: %s", error)


def report(workspace: Path, outcomes: dict[str, str]) -> str:
    """The artifact's Markdown."""
    stages = table(
        ["stage", "outcome", "MLflow run"],
        [[plain(stage), plain(outcome), _run_link(workspace, stage, outcome)] for stage, outcome in outcomes.items()],
    )
    reports = workspace / REPORTS
    return "\n".join(["# Pipeline", "", stages, "", *_scores(reports), _where(workspace, reports), ""])


def _where(workspace: Path, reports: Path) -> str:
    """Where the reports are once the flow has ended: the worktree of a retraining is gone then."""
    if workspace == main_workspace(workspace):
        return f"Report: [{plain(str(reports))}](<{reports.as_uri()}>)"
    branch = (Git(workspace).run("branch", "--show-current") or b"").decode().strip()
    return f"Report: `git show {branch}:{REPORTS}/metrics.json`, and all of {REPORTS}/ on that branch"


def _scores(reports: Path) -> list[str]:
    path = reports / "metrics.json"
    if not path.exists():
        return []
    content = json.loads(path.read_text(encoding="utf-8"))
    tests = content["tests"]
    lines = ["## Scores", "", scores_table(tests), ""]
    for name, scores in tests.items():
        if "bleus" not in scores:  # an older revision, which did not report them, is being retrained
            continue
        rows = beside_published(scores["bleus"], content["languages"], name)
        quoted = [[plain(cell) for cell in row] for row in rows]
        lines += [f"### {plain(full_name(name))}", "", table(["BLEU as", "", "signature or source"], quoted), ""]
    return lines


def _run_link(workspace: Path, stage: str, outcome: str) -> str:
    """The run that made what is in the workspace, which for a skipped stage is an earlier one."""
    if not _made_what_is_here(workspace, stage):
        return "made earlier, restored from DVC's cache"
    run = _mlflow_run(workspace, stage)
    if run is None:
        return "not delivered yet" if outcome == Outcome.COMPLETED else "not in MLflow"
    from mlflow import MlflowClient  # here: it takes seconds, and the stages are done
    from mlflow.exceptions import MlflowException

    try:
        found = MlflowClient(tracking_uri=tracking_uri()).get_run(run).info
    except Exception as error:  # whatever a server or a database fails with: the stages are done
        gone = isinstance(error, MlflowException) and error.error_code == "RESOURCE_DOES_NOT_EXIST"
        return f"{plain(run[:8])}, no longer in MLflow" if gone else f"{plain(run[:8])}, MLflow does not answer"
    if found.lifecycle_stage != "active":
        return f"{plain(run[:8])}, deleted in MLflow"
    address = f"{_mlflow_address()}/#/experiments/{found.experiment_id}/runs/{run}"
    return f"[{plain(run[:8])}](<{quote(address, safe=':/#')}>)"


def _mlflow_address() -> str:
    """Of the page: a server's own, or that of the `make serve` which started this flow."""
    server = os.environ.get("MLFLOW_TRACKING_URI", "")
    return server.rstrip("/") if server.startswith("http") else os.environ.get(MLFLOW_UI_VARIABLE, MLFLOW_UI)


def _made_what_is_here(workspace: Path, stage: str) -> bool:
    """Whether the stage's record, if there is one, is of the outputs that dvc.lock names."""
    try:
        path = record_path(workspace, stage)
        record = parse_record(path.read_bytes(), str(path))
        locked = read_lock(workspace / LOCK)[stage]
    except (FileNotFoundError, DataError, KeyError):
        return True
    return md5s(record.outputs) == locked.outputs


def _mlflow_run(workspace: Path, stage: str) -> str | None:
    path = record_path(workspace, stage)
    try:
        return parse_record(path.read_bytes(), str(path)).runs.mlflow
    except (FileNotFoundError, DataError):
        return None


def _wait_for_delivery(workspace: Path, stages: list[str]) -> None:
    waiting = [stage for stage in stages if record_path(workspace, stage).exists()]
    deadline = time.monotonic() + PATIENCE_SECONDS
    while waiting and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
        waiting = [stage for stage in waiting if _mlflow_run(workspace, stage) is None]
