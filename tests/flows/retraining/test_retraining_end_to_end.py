"""Retraining as a user sees it: a Prefect server, a worker, prefect.yaml's deployments, MLflow, and a tiny corpus.

The tests share one workspace and run in the order they stand in: a first champion, a nightly check, data that turns
bad and a model that is refused for it, an approval after a crash, a rollback.
"""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml
from prefect.client.schemas.actions import GlobalConcurrencyLimitUpdate, WorkPoolCreate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import AwaitingRetry
from prefect_server import PrefectServer, Worker, until
from workspace import Workspace, tiny_checkout

pytestmark = pytest.mark.slow
MODEL = "transformer-en-de"


class Operator:
    """What a person does and sees in Prefect's UI, in MLflow and in the workspace."""

    def __init__(self, server: PrefectServer, workspace: Workspace) -> None:
        self.server, self.client, self.workspace = server, server.client, workspace

    def deploy(self) -> None:
        self.client.create_work_pool(WorkPoolCreate(name="local", type="process"))
        command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--all"]
        environment = self.workspace.environment | self.server.settings
        done = subprocess.run(command, cwd=self.workspace.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    def trigger(self, name: str = "retraining/retraining", **parameters: Any) -> UUID:
        deployment = self.client.read_deployment_by_name(name)
        return self.client.create_flow_run_from_deployment(deployment.id, parameters=parameters).id

    def run(self, run: UUID) -> FlowRun:
        return self.client.read_flow_run(run)

    def state(self, run: UUID) -> State:
        state = self.run(run).state
        assert state is not None
        return state

    def until_state(self, run: UUID, *names: str) -> None:
        expected = {*names, "Failed", "Crashed"}
        until(lambda: self.state(run).name in expected, 240, f"{names}; {self.log(run)}")
        assert self.state(run).name in names, self.log(run)

    def log(self, run: UUID) -> str:
        """The run's own lines and those of the pipeline in it."""
        parts = self.client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id={"any_": [run]}))
        runs = [run, *(part.id for part in parts)]
        of_runs, lines = LogFilter(flow_run_id=LogFilterFlowRunId(any_=runs)), []
        while page := self.client.read_logs(of_runs, limit=200, offset=len(lines)):
            lines += page
        return "\n".join(line.message for line in lines)

    def artifact(self, run: UUID, key: str) -> str:
        of_run = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run]))
        return next(
            str(found.data) for found in self.client.read_artifacts(artifact_filter=of_run) if found.key == key
        )

    def champion(self) -> str | None:
        aliases = self.workspace.mlflow_client().get_registered_model(MODEL).aliases
        return str(aliases["champion"]) if "champion" in aliases else None

    def retrainings_started_by_drift(self) -> list[UUID]:
        runs = self.client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["retraining"])))
        return [run.id for run in runs if (run.idempotency_key or "").startswith("drift-")]

    def version_tags(self, number: str) -> dict[str, str]:
        tags: dict[str, str] = self.workspace.mlflow_client().get_model_version(MODEL, number).tags
        return tags

    def branch(self, run: UUID) -> str:
        return self.workspace.git(
            "branch", "--list", f"retraining/*-{str(run)[-8:]}", "--format=%(refname:short)"
        ).strip()

    def promotion(self, run: UUID) -> dict[str, str]:
        """The last line of the branch's table."""
        table = self.workspace.git("show", f"{self.branch(run)}:reports/promotions.csv")
        return list(csv.DictReader(table.splitlines()))[-1]

    @contextmanager
    def nothing_touched(self) -> Iterator[None]:
        """The user's commit, branch, index and files are after the body what they were before."""
        commands = ("rev-parse HEAD", "branch --show-current", "status")
        before = [self.workspace.git(*command.split()) for command in commands]
        yield
        assert [self.workspace.git(*command.split()) for command in commands] == before
        assert self.workspace.git("worktree", "list").count("\n") == 1


@pytest.fixture(scope="module")
def operator(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """Deployments of a tiny checkout in which nothing was run yet, and a worker."""
    workspace = tiny_checkout(tmp_path_factory.mktemp("retraining") / "checkout")
    workspace.dvc("remote", "add", "--local", "-d", "store", "../store")
    operator = Operator(prefect_server, workspace)
    operator.deploy()
    worker = Worker(prefect_server, "local", workspace.folder, workspace.environment)
    worker.start()
    yield operator
    worker.end(signal.SIGTERM)


def test_the_first_model_becomes_the_champion(operator: Operator) -> None:
    with operator.nothing_touched():
        run = operator.trigger(overrides={"training.updates": 200})
        operator.until_state(run, "Completed")
    assert operator.champion() == "1"
    line = operator.promotion(run)
    assert (line["version"], line["decision"], line["reason"]) == ("1", "promoted", "no champion yet")
    tags = operator.version_tags("1")
    assert (tags["promotion.decision"], tags["promotion.flow_run"]) == ("promoted", str(run))
    assert "no champion yet" in operator.artifact(run, "promotion")
    # The branch holds what the model was made with and how good it is; DVC's remote holds the model.
    branch, git = operator.branch(run), operator.workspace.git
    assert "updates: 200" in git("show", f"{branch}:params.yaml")
    assert json.loads(git("show", f"{branch}:reports/metrics.json"))["test"]["bleu"] > 0
    changed = git("diff", "--name-only", "main", branch).split()
    assert {"params.yaml", "dvc.lock", "reports/metrics.json", "reports/promotions.csv"} <= set(changed)
    assert {name.split("/")[0] for name in changed} == {"params.yaml", "dvc.lock", "reports"}
    lock = yaml.safe_load(git("show", f"{branch}:dvc.lock"))
    (model,) = (out["md5"] for out in lock["stages"]["average"]["outs"])
    objects = operator.workspace.folder.parent / "store" / "files" / "md5"
    listed = json.loads((objects / model[:2] / model[2:]).read_text())
    assert all((objects / entry["md5"][:2] / entry["md5"][2:]).is_file() for entry in listed)
    assert "model.safetensors" in [entry["relpath"] for entry in listed]


def test_a_nightly_check_finds_nothing_to_do(operator: Operator) -> None:
    (branch,) = operator.workspace.git("branch", "--list", "retraining/*", "--format=%(refname:short)").split()
    operator.workspace.git("merge", "--quiet", "--ff-only", branch)
    with operator.nothing_touched():
        run = operator.trigger("drift/drift-nightly")
        operator.until_state(run, "Completed")
    assert "All sources are what the registry and the last download say" in operator.artifact(run, "drift")
    assert str(operator.state(run).message).startswith("no source of tiny has changed")
    assert operator.retrainings_started_by_drift() == []


def test_bad_data_is_noticed_once_and_its_model_refused(operator: Operator) -> None:
    targets = operator.workspace.folder / "tiny" / "train.de"
    targets.write_text("".join(f"{' '.join(reversed(line.split()))}\n" for line in targets.read_text().splitlines()))
    operator.workspace.git("commit", "--quiet", "-m", "new data", "tiny")
    kept = {path: path.read_text() for path in (operator.workspace.folder / "work" / "translations").rglob("*.jsonl")}
    (champions,) = (path for path in kept if operator.version_tags("1")["sha256"] in str(path))
    champions.unlink()  # so that the champion has to translate again
    with operator.nothing_touched():
        checks = [operator.trigger("drift/drift-nightly") for _ in range(2)]
        for check in checks:
            operator.until_state(check, "Completed")
            assert "tiny/train.de is" in operator.artifact(check, "drift")
        (run,) = operator.retrainings_started_by_drift()
        operator.until_state(run, "Completed")
    assert champions.read_text() == kept[champions]
    assert operator.champion() == "1"
    line = operator.promotion(run)
    assert (line["version"], line["decision"], line["champion"]) == ("2", "refused", "1")
    assert float(line["bleu"]) < float(line["champion_bleu"])
    assert float(line["p_value"]) < 0.05
    assert "tiny-test: bleu" in line["reason"]
    assert operator.version_tags("2")["promotion.reason"] == line["reason"]
    passed = {check["name"]: check["passed"] for check in json.loads(operator.version_tags("2")["promotion.checks"])}
    assert not passed["bleu"]
    assert "**fails**" in operator.artifact(run, "promotion")


def test_after_a_crash_training_goes_on_and_a_person_approves(operator: Operator) -> None:
    with operator.nothing_touched():
        overrides = {"training.updates": 1000, "training.seed": 2, "training.validate_every": 1000}
        run = operator.trigger(revision="HEAD~1", overrides=overrides, promote="manual")
        until(lambda: "/1000  loss" in operator.log(run), 240, "training")
        os.kill(flow_process(run).pid, signal.SIGKILL)
        last_words = (
            "Check whether the flow run exceeded its memory"  # a worker reports a crash twice, then says this
        )
        until(lambda: last_words in operator.log(run), 120, "the worker's report of the crash")
        folder = operator.workspace.folder / "work" / "retraining" / str(run)[-8:]
        assert folder.is_dir()
        operator.client.set_flow_run_state(run, AwaitingRetry(), force=True)  # as the automation of `make serve` does
        # The dead process's slot would be free in a minute; this test need not wait for it.
        operator.client.update_global_concurrency_limit("gpu", GlobalConcurrencyLimitUpdate(active_slots=0))
        operator.until_state(run, "Paused")
        assert "resuming after update" in operator.log(run)
        assert operator.champion() == "1"
        refused = operator.client.resume_flow_run(run, run_input={"approve": "perhaps?"})
        assert refused.status.value == "REJECT"
        operator.client.resume_flow_run(run, run_input={"approve": True, "comment": "looks fine"})
        operator.until_state(run, "Completed")
    assert not folder.exists()
    assert operator.champion() == "3"
    line = operator.promotion(run)
    assert (line["version"], line["decision"], line["champion"]) == ("3", "promoted", "1")
    assert line["reason"].startswith("approved by hand: looks fine")


def flow_process(run: UUID) -> psutil.Process:
    """The process in which the worker runs the flow."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("PREFECT__FLOW_RUN_ID") == str(run) and "prefect" in " ".join(process.cmdline()):
                return process
        except psutil.Error:
            continue
    raise AssertionError("the flow has no process")


def test_a_rollback_and_the_history(operator: Operator) -> None:
    promote = (sys.executable, "-m", "flows.promotion")
    printed = operator.workspace.run(*promote, "--to", "1", "--reason", "users complain")
    assert "version 1 of transformer-en-de is the champion instead of version 3" in printed
    assert operator.champion() == "1"
    rows = [line.split("│") for line in operator.workspace.run(*promote).splitlines() if line.startswith("│")]
    decisions = [row[3].strip() for row in rows if row[2].strip()]  # a long reason goes on in rows without a version
    assert decisions == ["promoted", "refused", "promoted", "rolled back"]
    assert "users complain" in "".join(row[5] for row in rows[-2:])
    wrong = operator.workspace.run(*promote, "--to", "9", succeeds=False)
    assert wrong.strip() == "error: transformer-en-de has no version 9; those there: 1, 2, 3"


def test_a_retraining_goes_on_from_the_champion(operator: Operator) -> None:
    with operator.nothing_touched():
        first = operator.workspace.git("rev-list", "--max-parents=0", "HEAD").strip()  # before the data turned bad
        overrides = {"training.updates": 60, "training.forgetting_limit": 2.0}
        run = operator.trigger(revision=first, start="champion", mix=0.5, overrides=overrides)
        operator.until_state(run, "Completed")
    assert operator.champion() is not None
    branch, git = operator.branch(run), operator.workspace.git
    params = yaml.safe_load(git("show", f"{branch}:params.yaml"))
    assert (params["training"]["start_from"], params["preparation"]["mix"]) == (f"{MODEL}/1", 0.5)
    assert f"starting from {MODEL}/1" in operator.log(run)
    # Half of the champion's pairs, but for those that the corpus has itself: all of them where it is the same one.
    mixture = json.loads(git("show", f"{branch}:reports/tokens.json"))["mixture"]
    replayed = [counts["pairs"] for name, counts in mixture["corpora"].items() if name.startswith("replayed ")]
    assert sum(replayed) + mixture["not_replayed"]["known"] > 100
    line = operator.promotion(run)
    assert (line["champion"], line["decision"]) == ("1", operator.version_tags(line["version"])["promotion.decision"])
    shown = operator.workspace.run("lineage", "show", branch)
    assert f"from {MODEL}/1" in shown


def test_wrong_parameters_start_nothing(operator: Operator) -> None:
    with pytest.raises(PrefectHTTPStatusError, match="promote"):
        operator.trigger(promote="perhaps")
    run = operator.trigger(overrides={"training.update": 1})
    until(lambda: operator.state(run).is_final(), 120, "the end")
    assert operator.state(run).name == "Failed"
    assert "overrides: training.update is not a key; allowed here: seed, updates" in str(operator.state(run).message)
    assert operator.branch(run) == ""
