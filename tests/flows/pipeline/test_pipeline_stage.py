"""One stage as real processes: what DVC did with it, why it failed, and what is left when somebody is killed."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
import zc.lockfile
from prefect_server import until
from tiny_inputs import CHECKOUT

from flows.pipeline.graph import read_graph
from flows.pipeline.stage_process import Outcome, StageError, run_stage
from flows.processes import groups
from flows.processes.groups import RunStopped
from transformer.errors import ExitCode, ParamsError

# As a stage of ours does it: SIGTERM saves the state, and the parent's death is SIGTERM.
TRAINER = """
import signal, sys, time
from pathlib import Path
import flows.stages
def save(*_):
    Path("saved").write_text("state")
    sys.exit(75)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True)
time.sleep(120)
"""


class Stages:
    """A DVC workspace without git, with stages that are shell commands."""

    def __init__(self, folder: Path, stages: dict[str, dict[str, Any]]) -> None:
        self.folder = folder
        (folder / ".dvc" / "tmp").mkdir(parents=True)
        (folder / ".dvc" / "config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
        (folder / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
        self.lines: list[str] = []

    def run(self, stage: str, run: str = "a run") -> Outcome:
        """Have the stage brought up to date, as the flow does it."""
        identity = {"PYTHONPATH": str(CHECKOUT), "PIPELINE_FLOW_RUN_ID": run}
        return run_stage(run, stage, self.folder, identity, self.lines.append)

    def failure(self, stage: str) -> StageError:
        with pytest.raises(StageError) as caught:
            self.run(stage)
        return caught.value


@pytest.fixture
def stages(tmp_path: Path) -> Callable[..., Stages]:
    """Makes a workspace of stages named by keyword, each a command or a whole definition."""

    def make(**definitions: str | dict[str, Any]) -> Stages:
        full = {name: {"cmd": one} if isinstance(one, str) else one for name, one in definitions.items()}
        return Stages(tmp_path, full)

    return make


@pytest.fixture
def training(stages: Callable[..., Stages]) -> Stages:
    """A stage that trains until it is told to stop."""
    made = stages(train={"cmd": "exec python trainer.py", "outs": ["model"]})
    (made.folder / "trainer.py").write_text(TRAINER)
    return made


def test_the_outcome_is_what_dvc_did(stages: Callable[..., Stages]) -> None:
    made = stages(copy={"cmd": "echo copying; cp in out", "deps": ["in"], "outs": ["out"]})
    (made.folder / "in").write_text("1")
    assert made.run("copy") == Outcome.COMPLETED
    assert made.lines == [
        "Running stage 'copy':",
        "> echo copying; cp in out",
        "copying",
        "Generating lock file 'dvc.lock'",
        "Updating lock file 'dvc.lock'",
    ]
    assert made.run("copy") == Outcome.SKIPPED
    (made.folder / "in").write_text("2")
    assert made.run("copy") == Outcome.COMPLETED
    (made.folder / "in").write_text("1")
    assert made.run("copy") == Outcome.RESTORED
    assert (made.folder / "out").read_text() == "1"


def test_lines_come_as_they_are_written(stages: Callable[..., Stages]) -> None:
    made = stages(talk="echo first; while [ ! -e heard ]; do sleep 0.05; done; echo last")

    def hear(line: str) -> None:
        made.lines.append(line)
        if line == "first":
            (made.folder / "heard").touch()

    run_stage("a run", "talk", made.folder, {}, hear)
    assert [line for line in made.lines if line in ("first", "last")] == ["first", "last"]


@pytest.mark.parametrize(
    ("code", "retry_helps"),
    [(ExitCode.BAD_PARAMS, False), (ExitCode.DOWNLOAD_FAILED, True), (ExitCode.DIVERGED, False), (42, True)],
)
def test_the_exit_code_of_the_stage_decides_about_a_retry(
    stages: Callable[..., Stages], code: int, retry_helps: bool
) -> None:
    error = stages(fail=f"echo 'error: too warm'; exit {code}").failure("fail")
    assert (str(error), error.retry_helps) == ("stage fail: too warm", retry_helps)
    assert error.exit_code == (code if code in set(ExitCode) else ExitCode.FAILURE)


def test_a_stage_that_a_signal_killed_is_worth_a_retry(stages: Callable[..., Stages]) -> None:
    error = stages(fail="kill -9 $$").failure("fail")
    assert (str(error), error.retry_helps) == ("stage fail: ended with signal 9", True)


def test_a_full_disk_is_told_in_plain_words_and_not_retried(stages: Callable[..., Stages]) -> None:
    error = stages(fail="seq 9 > /dev/full").failure("fail")
    assert str(error).startswith("stage fail: the disk is full (")
    assert not error.retry_helps


def test_dvcs_own_refusal_is_told_in_its_words(stages: Callable[..., Stages]) -> None:
    error = stages(read={"cmd": "true", "deps": ["nowhere"]}).failure("read")
    assert str(error) == "stage read: failed to reproduce 'read': dependency 'nowhere' does not exist"


def test_a_busy_workspace_names_who_works_in_it(training: Stages) -> None:
    entry = {"pid": os.getpid(), "cmd": " ".join(sys.argv)}
    (training.folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps({"write": {"model": entry}, "read": {}}))
    path = str(training.folder / "model")
    (training.folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps({"write": {path: entry}, "read": {}}))
    error = training.failure("train")
    assert str(error).startswith(f"stage train: {path} is in use by ")
    assert f"(process {os.getpid()}); one pipeline at a time runs in a workspace" in str(error)
    assert error.retry_helps


def test_the_entry_of_a_number_that_lives_on_in_another_process_is_dropped(stages: Callable[..., Stages]) -> None:
    made = stages(make={"cmd": "echo 1 > out", "outs": ["out"]})
    with subprocess.Popen(["sleep", "60"]) as stranger:
        entry = {"pid": stranger.pid, "cmd": "/usr/bin/dvc repro make"}
        path = str(made.folder / "out")
        (made.folder / ".dvc" / "tmp" / "rwlock").write_text(
            json.dumps({"write": {path: entry}, "read": {path: [entry]}})
        )
        assert "is in use by /usr/bin/dvc repro make" in str(made.failure("make"))
        read_graph(made.folder)
        assert made.run("make") == Outcome.COMPLETED
        stranger.kill()


def test_the_entry_of_a_working_dvc_is_kept(training: Stages) -> None:
    with Running(training, "working run"):
        read_graph(training.folder)
        assert str(training.folder / "model") in (training.folder / ".dvc" / "tmp" / "rwlock").read_text()
        assert "is in use by" in str(training.failure("train"))


def test_a_lock_that_is_held_when_the_stage_ends_costs_nothing(stages: Callable[..., Stages]) -> None:
    held_for = 5.0  # DVC by itself gives up after 3
    made = stages(
        make={"cmd": "echo 1 > out; touch ending; while [ ! -e held ]; do sleep 0.05; done", "outs": ["out"]}
    )

    def hold() -> None:
        until((made.folder / "ending").exists)
        lock = zc.lockfile.LockFile(str(made.folder / ".dvc" / "tmp" / "lock"))
        (made.folder / "held").touch()
        time.sleep(held_for)
        lock.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert made.run("make") == Outcome.COMPLETED
    holder.join()
    assert "out" in (made.folder / "dvc.lock").read_text()


class Running:
    """A stage at work in a thread of its own; yields its processes, and stops them at the end."""

    def __init__(self, made: Stages, run: str) -> None:
        self.made, self.run = made, run
        self.ended: list[BaseException] = []

    def _work(self) -> None:
        try:
            self.made.run("train", self.run)
        except BaseException as error:
            self.ended.append(error)

    def __enter__(self) -> list[psutil.Process]:
        self.thread = threading.Thread(target=self._work)
        self.thread.start()
        until(lambda: "ready" in self.made.lines, what="the stage")
        return here(self.made)

    def __exit__(self, *_: object) -> None:
        groups.stop(self.run)
        self.thread.join(60)


def here(made: Stages) -> list[psutil.Process]:
    """Everything that runs in the workspace."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(made.folder) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_stop_reaches_the_stage_and_nothing_starts_afterwards(training: Stages) -> None:
    work = Running(training, "stopped run")
    with work:
        assert len(here(training)) == 2  # dvc and the trainer
    assert here(training) == []
    assert (training.folder / "saved").exists()
    assert isinstance(work.ended[0], RunStopped)
    with pytest.raises(RunStopped):
        training.run("train", "stopped run")


def test_a_stage_that_ignores_the_request_is_killed(training: Stages, monkeypatch: pytest.MonkeyPatch) -> None:
    (training.folder / "trainer.py").write_text(TRAINER.replace("save)", "signal.SIG_IGN)"))
    monkeypatch.setattr(groups, "GRACE_SECONDS", 1.0)
    with Running(training, "stubborn run"):
        pass
    assert here(training) == []
    assert not (training.folder / "saved").exists()


def test_the_stage_dies_with_dvc(training: Stages) -> None:
    work = Running(training, "killed dvc")
    with work as processes:
        next(process for process in processes if "--single-item" in process.cmdline()).kill()
        until(lambda: here(training) == [], what="the end of the trainer")
    assert (training.folder / "saved").exists()
    assert "DVC failed without a message" in str(work.ended[0])


def test_all_die_with_the_flow(training: Stages) -> None:
    program = (
        "from pathlib import Path; from flows.pipeline.stage_process import run_stage; "
        f"run_stage('r', 'train', Path({str(training.folder)!r}), {{'PYTHONPATH': {str(CHECKOUT)!r}}}, print)"
    )
    with subprocess.Popen([sys.executable, "-uc", program], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True) as flow:
        assert flow.stdout is not None
        assert any("ready" in line for line in iter(flow.stdout.readline, "ready"))
        assert len(here(training)) == 2
        flow.kill()
    until(lambda: here(training) == [], what="the end of dvc and the trainer")
    assert (training.folder / "saved").exists()


HOLDER = """
import sys
from flows.stages.gpu_lock import gpu_lock
import logging
logging.basicConfig(level=logging.INFO)
with gpu_lock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(device: str, temporary: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", HOLDER, device],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(temporary)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_stages_on_one_device_take_turns_and_a_killed_one_makes_way(device: str, tmp_path: Path) -> None:
    with holder(device, tmp_path) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with holder(device, tmp_path) as second, holder("mps", tmp_path) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "held\n"
            assert second.stderr is not None
            assert f"waiting for {device}: another stage computes there and holds" in second.stderr.readline()
            first.kill()
            assert second.stdout is not None
            assert second.stdout.readline() == "held\n"
            second.kill()
            other.kill()


def test_the_graph_is_dvcs_own(stages: Callable[..., Stages]) -> None:
    hints = {"prefect": {"retries": 2, "retry_delay_seconds": 1.5, "timeout_seconds": 60, "tags": ["gpu"]}}
    made = stages(
        b={"cmd": "echo > b", "deps": ["a"], "outs": ["b"], "meta": hints},
        a={"cmd": "echo > a", "outs": ["a"]},
        part={"matrix": {"n": [1, 2]}, "cmd": "echo > p${item.n}", "deps": ["b"], "outs": ["p${item.n}"]},
    )
    graph = read_graph(made.folder)
    assert [(stage.name, stage.upstreams) for stage in graph] == [
        ("a", ()),
        ("b", ("a",)),
        ("part@1", ("b",)),
        ("part@2", ("b",)),
    ]
    assert graph[1].settings.model_dump() == hints["prefect"]
    assert [stage.name for stage in read_graph(made.folder, ["part@2"])] == ["a", "b", "part@2"]


def test_hints_for_prefect_do_not_invalidate_a_stage(stages: Callable[..., Stages]) -> None:
    made = stages(a={"cmd": "echo > a", "outs": ["a"]})
    assert made.run("a") == Outcome.COMPLETED
    (made.folder / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": {"a": {"cmd": "echo > a", "outs": ["a"], "meta": {"prefect": {"retries": 1}}}}})
    )
    assert made.run("a") == Outcome.SKIPPED


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (
            {"retry": 1},
            "meta.prefect.retry is not a key; allowed here: retries, retry_delay_seconds, timeout_seconds",
        ),
        ({"retries": -1}, "meta.prefect.retries = -1: input should be greater than or equal to 0"),
        ({"timeout_seconds": "1h"}, "meta.prefect.timeout_seconds = '1h': input should be a valid number"),
        ({"tags": "gpu"}, "meta.prefect.tags = 'gpu': input should be a valid list"),
        (3, "meta.prefect = 3: a section is expected, keys with their values below it"),
    ],
)
def test_wrong_hints_end_in_one_line(stages: Callable[..., Stages], hints: Any, message: str) -> None:
    made = stages(a={"cmd": "true", "meta": {"prefect": hints}})
    with pytest.raises(ParamsError) as caught:
        read_graph(made.folder)
    assert str(caught.value).startswith(f"dvc.yaml: stage a: {message}")


def test_wrong_workspaces_and_targets_end_in_one_line(stages: Callable[..., Stages], tmp_path_factory: Any) -> None:
    made = stages(a="true", b="true")
    with pytest.raises(ParamsError, match=r"^c is not a stage; dvc\.yaml has a, b$"):
        read_graph(made.folder, ["a", "c"])
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    with pytest.raises(ParamsError, match="you are not inside of a DVC repository"):
        read_graph(elsewhere)
    (made.folder / "dvc.yaml").write_text("stages: {a: {command: 'true'}}")
    with pytest.raises(ParamsError) as caught:
        read_graph(made.folder)
    assert "\n" not in str(caught.value)


def test_an_unreadable_rwlock_blocks_nobody(stages: Callable[..., Stages]) -> None:
    made = stages(a="true")
    (made.folder / ".dvc" / "tmp" / "rwlock").write_text('{"write": {')
    read_graph(made.folder)
    assert made.run("a") == Outcome.COMPLETED
