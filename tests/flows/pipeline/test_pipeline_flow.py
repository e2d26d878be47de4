"""`python -m flows.pipeline` on a real server, with stages that are shell commands: states, logs, artifacts, ends."""

import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import yaml
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.filters import ArtifactFilter, FlowRunFilter, FlowRunFilterDeploymentId, LogFilter
from prefect.client.schemas.objects import TaskRun
from prefect.client.schemas.schedules import CronSchedule
from prefect_server import PrefectServer, until
from tiny_inputs import CHECKOUT

from transformer.progress import TrainingLine

# Two independent stages, each of which ends only once the other one has begun.
MEETING = "touch {me}.begun; while [ ! -e {other}.begun ]; do sleep 0.05; done; cp in {me}"
LINES = [f"12:00:00 {TrainingLine(update, 20, 'loss 3.1  ETA 0:00:01')}" for update in (5, 10)]
TALK = f"printf '%s\\n' {shlex.join(LINES)}; echo 'warning: careful' >&2"
FLAKY = "echo attempt >> attempts; [ $(wc -l < attempts) -gt 1 ] || { echo 'error: cut off'; exit 4; }; touch flaky"


def meta(**hints: Any) -> dict[str, Any]:
    return {"meta": {"prefect": hints}}


class Pipeline:
    """A DVC workspace without git, and what Prefect knows of the runs in it."""

    def __init__(self, server: PrefectServer, folder: Path, stages: dict[str, dict[str, Any]]) -> None:
        self.server, self.client, self.folder = server, server.client, folder
        folder.mkdir()
        (folder / ".dvc").mkdir()
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (folder / "in").write_text("1")
        self.define(stages)

    def define(self, stages: dict[str, dict[str, Any]]) -> None:
        (self.folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))

    def start(self, *targets: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "flows.pipeline", *targets],
            cwd=self.folder,
            env=self.server.environment | {"PYTHONPATH": str(CHECKOUT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *targets: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        process = self.start(*targets)
        output, errors = process.communicate(timeout=200)
        return process.returncode, output, errors

    def last_run(self) -> UUID:
        runs = self.client.read_flow_runs()
        return max(runs, key=lambda run: run.created).id

    def tasks(self) -> dict[str, TaskRun]:
        """The tasks of the last run by stage, once all of them have ended."""
        run = self.last_run()
        found: dict[str, TaskRun] = {}

        def recorded() -> bool:  # the server writes task states down a moment after they have come
            runs = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run]}))
            found.update({task.name: task for task in runs})
            return all(task.state_type and (task.state_type.value != "RUNNING") for task in runs)

        until(recorded, what="the states of the tasks")
        return found

    def states(self) -> dict[str, str]:
        return {name: str(task.state_name) for name, task in self.tasks().items()}

    def log(self, stage: str) -> list[tuple[int, str]]:
        """Level and text of each line in the log of the stage's task."""
        task = self.tasks()[stage].id
        lines = self.client.read_logs(LogFilter(task_run_id={"any_": [task]}))
        return [(line.level, line.message) for line in lines]

    def artifacts(self) -> dict[str, Any]:
        """The data of each artifact of the last run by its key."""
        run = self.last_run()
        found = self.client.read_artifacts(artifact_filter=ArtifactFilter(flow_run_id={"any_": [run]}))
        return {str(one.key): one.data for one in found}

    def processes(self) -> list[str]:
        """The commands of everything that runs in the workspace."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(" ".join(process.cmdline()))
            except psutil.Error:
                continue
        return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


def test_states_logs_and_artifacts_of_a_run(prefect_server: PrefectServer, folder: Path) -> None:
    stages = {
        "left": {"cmd": MEETING.format(me="left", other="right"), "deps": ["in"], "outs": ["left"]},
        "right": {"cmd": MEETING.format(me="right", other="left"), "deps": ["in"], "outs": ["right"]},
        "join": {"cmd": "cat left right > join", "deps": ["left", "right"], "outs": ["join"]},
        "talk": {"cmd": TALK},
        "flaky": {"cmd": FLAKY, "outs": ["flaky"], **meta(retries=2, tags=["slow"])},
    }
    pipeline = Pipeline(prefect_server, folder, stages)
    status, output, errors = pipeline.run()
    assert status == 0, errors
    assert set(output.splitlines()) == {f"{name}: completed" for name in stages}
    assert pipeline.states() == dict.fromkeys(stages, "Completed")
    assert (folder / "join").read_text() == "11"
    tasks = pipeline.tasks()
    assert (tasks["flaky"].run_count, tasks["join"].run_count) == (2, 1)
    assert tasks["flaky"].tags == ["slow"]
    assert tasks["join"].start_time >= max(tasks["left"].end_time, tasks["right"].end_time)

    log = pipeline.log("talk")
    assert (20, LINES[-1]) in log
    assert (30, "warning: careful") in log
    assert not [line for _, line in log if "git add" in line]
    artifacts = pipeline.artifacts()
    assert artifacts["progress-talk"] == 50.0
    assert "| join | Completed | not delivered yet |" in artifacts["pipeline"]
    assert f"](<file://{folder}/reports>)" in artifacts["pipeline"]

    (folder / "in").write_text("2")
    assert pipeline.run("join")[0] == 0
    (folder / "in").write_text("1")
    (folder / "left").write_text("edited")
    status, output, errors = pipeline.run("flaky", "join")
    assert status == 0, errors
    assert sorted(output.splitlines()) == ["flaky: skipped", "join: restored", "left: restored", "right: restored"]
    restored = {"left": "Restored", "right": "Restored", "join": "Restored"}
    assert pipeline.states() == {"flaky": "Skipped", **restored}
    assert (folder / "join").read_text() == "11"


def test_a_failure_is_the_processs_exit_status_and_stops_only_what_needs_it(
    prefect_server: PrefectServer, folder: Path
) -> None:
    stages = {
        "bad": {
            "cmd": "echo attempt >> attempts; echo 'error: too warm'; exit 5",
            "outs": ["bad"],
            **meta(retries=3),
        },
        "after": {"cmd": "touch after", "deps": ["bad"], "outs": ["after"]},
        "other": {"cmd": "sleep 2; touch other", "outs": ["other"]},
        "slow": {"cmd": "sleep 300", **meta(timeout_seconds=8)},
    }
    pipeline = Pipeline(prefect_server, folder, stages)
    status, output, errors = pipeline.run()
    assert (status, output) == (5, "")
    assert errors.splitlines()[-1] == "error: stage bad: too warm"
    assert "Traceback" not in errors
    expected = {"bad": "Failed", "after": "NotReady", "other": "Completed", "slow": "TimedOut"}
    assert pipeline.states() == expected
    assert (folder / "attempts").read_text() == "attempt\n"
    assert pipeline.processes() == []
    assert pipeline.processes() == []
    assert prefect_server.client.read_flow_run(pipeline.last_run()).state_name == "Failed"
    status, _, errors = pipeline.run("slow")
    assert status == 1
    assert errors.splitlines()[-1] == "error: stage slow: Task run exceeded timeout of 8.0 second(s)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_everything_without_a_retry(
    prefect_server: PrefectServer, folder: Path, number: signal.Signals
) -> None:
    command = "echo attempt >> attempts; trap 'touch saved; exit 75' TERM; while true; do sleep 0.1; done"
    pipeline = Pipeline(prefect_server, folder, {"train": {"cmd": command, **meta(retries=3)}})
    process = pipeline.start()
    until((folder / "attempts").exists, what="the stage")
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert errors.splitlines()[-1] == "error: the pipeline was stopped; start again to continue"
    assert "Traceback" not in errors
    assert (folder / "saved").exists()
    assert (folder / "attempts").read_text() == "attempt\n"
    assert pipeline.processes() == []


def test_stages_tagged_gpu_take_turns_across_runs(prefect_server: PrefectServer, tmp_path: Path) -> None:
    turns = tmp_path / "turns"
    command = f"echo begin >> {turns}; sleep 4; echo end >> {turns}"
    stages = {"train": {"cmd": command, **meta(tags=["gpu"])}}
    first, second = (Pipeline(prefect_server, tmp_path / name, stages) for name in ("one", "two"))
    processes = [first.start(), second.start()]
    told = ""
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        told += errors
    assert told.count("waiting for a slot of the concurrency limit 'gpu'") == 1
    assert "failed to process" not in told  # as Prefect says of every wait
    assert turns.read_text().split() == ["begin", "end", "begin", "end"]
    limit = prefect_server.client.read_global_concurrency_limit_by_name("gpu")
    assert (limit.limit, limit.active_slots) == (1, 0)


def test_wrong_targets_and_hints_end_in_one_line(prefect_server: PrefectServer, folder: Path) -> None:
    pipeline = Pipeline(prefect_server, folder, {"a": {"cmd": "true", **meta(retry=1)}})
    status, output, errors = pipeline.run()
    assert (status, output) == (2, "")
    assert errors.splitlines()[-1].startswith(
        "error: dvc.yaml: stage a: meta.prefect.retry is not a key; allowed here"
    )
    assert "Traceback" not in errors


def test_cron_really_schedules(prefect_server: PrefectServer) -> None:
    client = prefect_server.client
    deployment = client.create_deployment(
        client.create_flow_from_name("pipeline"),
        "nightly",
        entrypoint="flows/pipeline/flow.py:pipeline",
        schedules=[DeploymentScheduleCreate(schedule=CronSchedule(cron="30 2 * * *", timezone="UTC"), active=True)],
    )
    mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[deployment]))
    until(lambda: len(client.read_flow_runs(flow_run_filter=mine)) >= 2, what="scheduled runs")
    planned = {run.expected_start_time for run in client.read_flow_runs(flow_run_filter=mine)}
    client.delete_deployment(deployment)
    assert {(moment.hour, moment.minute) for moment in planned if moment} == {(2, 30)}
    assert min(moment.timestamp() for moment in planned if moment) > time.time()
