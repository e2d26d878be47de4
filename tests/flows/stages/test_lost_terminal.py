"""SIGHUP, which a lost connection sends, stops a stage as SIGTERM does: its state is saved, whoever still listens."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_inputs import TINY_PARAMS
from trainings import tiny_tokens
from workspace import Workspace, tiny_files

from transformer.errors import ExitCode

COMMAND = [sys.executable, "-m", "flows.stages.train"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A checkout in which a training of some seconds can begin."""
    workspace = tiny_files(tmp_path / "checkout")
    tiny_tokens(workspace.folder / "data")
    training = {**TINY_PARAMS["training"], "updates": 1500, "log_every": 1, "checkpoint_every_updates": 5}
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump({**TINY_PARAMS, "training": training}))
    return workspace


def reached(workspace: Workspace) -> int:
    """The update of the saved state; waits for one."""
    deadline = time.monotonic() + 60
    while not (found := list((workspace.folder / "work" / "training").glob("*/progress.json"))):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return int(json.loads(found[0].read_text())["update"])


def short(workspace: Workspace) -> str:
    """What the training prints that goes on, made to end soon."""
    path = workspace.folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    content["training"]["updates"] = reached(workspace) + 5
    path.write_text(yaml.safe_dump(content))
    return workspace.run(*COMMAND)


def test_a_lost_terminal_saves_the_state(workspace: Workspace) -> None:
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(workspace.folder)
        os.execve(COMMAND[0], COMMAND, workspace.environment)  # noqa: S606
    os.set_blocking(terminal, False)
    deadline = time.monotonic() + 60
    while not list((workspace.folder / "work" / "training").glob("*/progress.json")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
        try:
            os.read(terminal, 1 << 16)
        except BlockingIOError:
            continue
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == ExitCode.INTERRUPTED
    assert f"resuming after update {reached(workspace)}" in short(workspace)


@pytest.mark.parametrize("ignored", [False, True])
def test_sighup_stops_unless_nohup_has_it_ignored(workspace: Workspace, ignored: bool) -> None:
    command = ["nohup", *COMMAND] if ignored else COMMAND
    stage = subprocess.Popen(
        command, cwd=workspace.folder, env=workspace.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    first = reached(workspace)
    stage.send_signal(signal.SIGHUP)
    if ignored:
        deadline = time.monotonic() + 60
        while reached(workspace) == first:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert stage.poll() is None
        stage.send_signal(signal.SIGTERM)
    _, told = stage.communicate(timeout=60)
    assert stage.returncode == ExitCode.INTERRUPTED
    asked = "SIGTERM" if ignored else "SIGHUP"
    assert f"error: {asked}: training stopped at update {reached(workspace)} with its state saved" in told
    assert "Traceback" not in told
    assert f"resuming after update {reached(workspace)}" in short(workspace)
