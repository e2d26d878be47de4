"""Stages as processes: wrong params end in one line, with an exit status, before any work or record."""

import copy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_inputs import CHECKOUT, TINY_PARAMS

STAGES = list(yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"])


def run_stage(stage: str, workspace: Path) -> "subprocess.CompletedProcess[str]":
    """Run one stage of this checkout's code in another folder."""
    return subprocess.run(
        [sys.executable, "-m", f"flows.stages.{stage}"],
        cwd=workspace,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": "/usr/bin:/bin", "HOME": str(workspace)},
        capture_output=True,
        text=True,
    )


def wrong(section: str, key: str, value: Any) -> dict[str, Any]:
    """The tiny params with one value changed."""
    params = copy.deepcopy(TINY_PARAMS)
    params[section][key] = value
    return params


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (wrong("training", "sed", 1), "error: params.yaml: training.sed is not a key; allowed here: seed, updates"),
        (wrong("training", "updates", 0), "error: params.yaml: training.updates = 0: input should be greater than"),
        (wrong("model", "d_model", "big"), "error: params.yaml: model.d_model = 'big': input should be a valid int"),
    ],
)
def test_wrong_params_end_in_one_line(tmp_path: Path, params: dict[str, Any], message: str) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    done = run_stage("prepare", tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_checks_params_first(tmp_path: Path, stage: str) -> None:
    done = run_stage(stage, tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: params.yaml is missing: copy one of presets/ to params.yaml\n"
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]  # third parties may cache


def test_missing_input_is_one_line_and_the_status_of_bad_data(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS))
    (tmp_path / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    done = run_stage("prepare", tmp_path)
    assert done.returncode == 3
    assert done.stderr == "error: data/raw/parts.json is missing: run the download stage first (dvc repro download)\n"


def test_tracking_that_cannot_write_warns_once_and_lets_the_stage_work(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS))
    (tmp_path / "work").write_text("a file where tracking wants its folder")
    (tmp_path / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    done = run_stage("prepare", tmp_path)
    warning, error = done.stderr.splitlines()
    assert warning.startswith("warning: this run is not recorded: ")
    assert error.startswith("error: data/raw/parts.json is missing")
    assert done.returncode == 3


def test_a_second_signal_does_not_disturb_the_end(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS))
    (tmp_path / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    (tmp_path / "stage.py").write_text(
        "import time\n"
        "from flows.stages.runner import run_stage\n"
        "def work(params, run):\n"
        "    try:\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    finally:\n"
        "        print('ending', flush=True)\n"
        "        time.sleep(0.5)\n"
        "run_stage('prepare', work)\n"
    )
    stage = subprocess.Popen(
        [sys.executable, "stage.py"],
        cwd=tmp_path,
        env={
            "PYTHONPATH": str(CHECKOUT),
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # the record stays
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert stage.stdout is not None
    assert stage.stdout.readline() == "ready\n"
    stage.terminate()
    assert stage.stdout.readline() == "ending\n"
    stage.terminate()
    _, errors = stage.communicate(timeout=60)
    assert (stage.returncode, errors) == (75, "error: stage prepare was stopped; start again to continue\n")
    (events,) = (tmp_path / "work" / "tracking").glob("*/events.jsonl")
    assert '"status": "KILLED"' in events.read_text().splitlines()[-1]
