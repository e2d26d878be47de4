"""What a person does to commands at awkward moments ends in one line: Ctrl-C, wrong ports, a dead API, full disks."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_inputs import CHECKOUT, write_tiny_inputs

from transformer.errors import trouble_of_the_machine

COMMAND_SECONDS = 120


def start(folder: Path, module: str, *arguments: str, **environment: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"], "HOME": str(folder), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def imports(process: "subprocess.Popen[str]", name: str) -> bool:
    """Whether the process has mapped a library of this name, which tells how far its imports have come."""
    return name in Path(f"/proc/{process.pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("module", "status", "told"),
    [
        ("flows.stages.train", 75, "error: stopped before the stage had begun; start again\n"),
        ("flows.summary", -signal.SIGINT, "stopped\n"),
        ("flows.lineage", -signal.SIGINT, "stopped\n"),
    ],
)
def test_ctrl_c_while_a_command_is_imported(tmp_path: Path, module: str, status: int, told: str) -> None:
    process = start(tmp_path, module)
    deadline = time.monotonic() + COMMAND_SECONDS
    while not imports(process, "pydantic_core"):  # one of the first that our modules import
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert (process.returncode, output, errors) == (status, "", told)


@pytest.mark.parametrize("argument", ["--help", "jion"])
def test_a_stage_is_not_started_by_a_wrong_argument(tmp_path: Path, argument: str) -> None:
    process = start(tmp_path, "flows.stages.train", argument)
    _, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert errors == "error: stages take no arguments; their settings are in params.yaml\n"
    assert process.returncode == 2


@pytest.mark.parametrize(("port", "told"), [("99999", "99999"), ("0", "0"), ("-1", "-1")])
def test_no_such_port(tmp_path: Path, port: str, told: str) -> None:
    process = start(tmp_path, "flows.server", f"--port={port}")
    _, errors = process.communicate(timeout=COMMAND_SECONDS)
    assert errors == f"error: --port {told}: ports go from 1 to 65535\n"
    assert process.returncode == 2


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/api", "http://bob:SECRET@127.0.0.1:9/api", "nonsense"])
def test_a_dead_api_is_named_without_its_password(tmp_path: Path, address: str) -> None:
    (tmp_path / "data").mkdir()
    write_tiny_inputs(tmp_path)
    process = start(tmp_path, "flows.pipeline", PREFECT_API_URL=address)
    _, errors = process.communicate(timeout=COMMAND_SECONDS)
    (line,) = errors.splitlines()
    assert line.startswith(f"error: Prefect at {address.replace('bob:SECRET@', '')} does not answer (")
    assert process.returncode == 1


def test_a_full_disk_while_a_stage_writes_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    write_tiny_inputs(tmp_path)
    (tmp_path / "dvc.yaml").write_text((CHECKOUT / "dvc.yaml").read_text())
    (tmp_path / "full.py").write_text(
        "from flows.stages.runner import run_stage\n"
        "def work(params, run):\n"
        "    open('/dev/full', 'wb', buffering=0).write(b'x')\n"
        "run_stage('prepare', work)\n"
    )
    process = subprocess.run(
        [sys.executable, "full.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT), "PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        | {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 1
    assert "no room is left on the disk; make room and start again" in process.stderr
    assert "Traceback" not in process.stderr


def test_problems_of_the_disk_in_words() -> None:
    full = OSError(errno.ENOSPC, "x", "work/state")
    assert str(trouble_of_the_machine(full)).startswith(
        "work/state: no room is left on the disk; make room and start again"
    )
    arrow = OSError("Error writing bytes to file. Detail: [errno 28] No space left on device")
    assert "no room is left on the disk; make room" in str(trouble_of_the_machine(arrow))
    assert "permission denied; put that right" in str(trouble_of_the_machine(PermissionError(errno.EACCES, "x", "a")))
    assert trouble_of_the_machine(ConnectionRefusedError(errno.ECONNREFUSED, "x")) is None
