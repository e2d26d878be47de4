"""The parts of benchmarks/gpu.sh: each by itself, whatever becomes of the others; every mistake one line."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from tiny_inputs import CHECKOUT

from benchmarks.gpu.parts import NAMES, RefusedError, Result, chosen_parts
from benchmarks.gpu.table import SUMMARY_FILE

# In place of the parts: what can go wrong in one, and two that end well.
STUBS = {
    "machine": "raise RuntimeError('no card')",
    "correctness": """
        import subprocess, sys, time
        result.record(seen=1)
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
        print("child", child.pid, flush=True)
        time.sleep(600)""",
    "training": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "operators": """
        from benchmarks.gpu.parts import Row
        result.record(rows=[Row("updates", "7", ">= 5", True)], updates=7)""",
    "decoding": "from transformer.errors import DataError; raise DataError('the model is missing: run this')",
    "multi30k": "print('trained'); result.record(bleu=38.5)",
}


@pytest.fixture
def stubbed(tmp_path: Path) -> Path:
    """A checkout whose parts are the stubs."""
    package = tmp_path / "checkout" / "benchmarks" / "gpu"
    package.mkdir(parents=True)
    (tmp_path / "checkout" / "transformer").symlink_to(CHECKOUT / "transformer")
    for name in ("__init__", "__main__", "part", "parts", "table"):
        (package / f"{name}.py").write_text((CHECKOUT / "benchmarks" / "gpu" / f"{name}.py").read_text())
    for name, body in STUBS.items():
        indented = "\n".join("    " + line.removeprefix("        ") for line in body.strip("\n").splitlines())
        (package / f"{name}.py").write_text(f"def measure(result):\n{indented}\n")
    return tmp_path / "checkout"


def run(checkout: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "benchmarks.gpu"]
    environment = {**os.environ, **settings}
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


def results(folder: Path) -> dict[str, dict[str, object]]:
    return {path.stem[2:]: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def test_whatever_becomes_of_a_part_the_others_run(stubbed: Path) -> None:
    done = run(stubbed, BUDGET="40")  # of which the part that hangs has 9 seconds
    found = results(stubbed / "reports" / "gpu")
    assert list(found) == NAMES
    assert {name: result["status"] for name, result in found.items()} == {
        "machine": "failed", "correctness": "cut", "training": "failed", "operators": "done", "decoding": "failed",
        "multi30k": "done",
    }  # fmt: skip
    assert done.returncode == 1
    errors = {name: str(result["error"]) for name, result in found.items()}
    assert errors["machine"] == "RuntimeError: no card"
    assert "Traceback" in done.stdout
    assert errors["correctness"].startswith("cut after ")
    assert found["correctness"]["figures"] == {"seen": 1}  # what was measured before the cut
    assert errors["training"] == "its process ended with SIGSEGV"
    assert errors["decoding"] == "the model is missing: run this"
    assert found["multi30k"]["figures"] == {"bleu": 38.5}

    child = int(next(line for line in done.stdout.splitlines() if line.startswith("child")).split()[1])
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE
    files = sorted(path.name for path in (stubbed / "reports" / "gpu").iterdir())
    assert len(files) == 8
    assert "trained" in (stubbed / "reports" / "gpu" / "log.txt").read_text()
    summary = (stubbed / "reports" / "gpu" / SUMMARY_FILE).read_text()
    for line in ("| updates | 7 | >= 5 | yes |", "| machine | FAILED: RuntimeError: no card |  | no |",
                 "| decoding | FAILED: the model is missing: run this |  | no |"):  # fmt: skip
        assert line in summary
    assert "updates" in done.stdout.split("== multi30k: done")[1]  # the table is last


def test_some_parts_only_keep_the_others_results(stubbed: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(stubbed, PARTS="operators", OUT=str(out)).returncode == 0
    kept = (out / "4-operators.json").read_bytes()
    assert run(stubbed, PARTS="6", OUT=str(out)).returncode == 0
    assert (out / "4-operators.json").read_bytes() == kept
    assert list(results(out)) == ["operators", "multi30k"]
    summary = (out / SUMMARY_FILE).read_text()
    assert "| updates | 7 |" in summary
    assert "| training | not run |" in summary


def test_interrupted_it_ends_the_part_and_shows_what_there_is(stubbed: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=stubbed, env={**os.environ, "PARTS": "4,2,6"},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    child = next(int(line.split()[1]) for line in process.stdout if line.startswith("child"))
    process.terminate()
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 130
    assert "interrupted after" in output
    assert "not run" in output
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_parts_go_by_name_and_number() -> None:
    assert [part.name for part in chosen_parts("")] == NAMES
    assert [part.name for part in chosen_parts("correctness, 1 machine,6")] == ["machine", "correctness", "multi30k"]
    with pytest.raises(RefusedError, match=r"PARTS: 'trainnig' is not a part; there are 1 machine, 2 correctness, "):
        chosen_parts("machine,trainnig")


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"PARTS": "trainnig"}, "error: PARTS: 'trainnig' is not a part; there are "),
        ({"OUT": "/proc/figures"}, "error: OUT: /proc/figures cannot be written: "),
        ({"OUT": "benchmarks/gpu/part.py"}, "error: OUT: benchmarks/gpu/part.py cannot be written: "),
        ({"DEVICE": "tpu"}, "error: DEVICE: 'tpu' is neither cuda nor cpu"),
        ({"BUDGET": "5min"}, "error: BUDGET: '5min' is not a number of seconds"),
    ],
)
def test_a_wrong_setting_is_one_line(stubbed: Path, settings: dict[str, str], line: str) -> None:
    done = run(stubbed, **settings)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def shell(checkout: Path, python: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """gpu.sh with `python` in place of Python."""
    path = checkout / "python"
    path.write_text(f"#!/bin/sh\n{python}\n")
    path.chmod(0o755)
    environment = {**os.environ, "PYTHON": str(path), **settings}
    command = ["bash", "benchmarks/gpu.sh"]
    return subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture
def with_shell(stubbed: Path) -> Path:
    for name in ("gpu.sh", "gpu/missing.py"):
        (stubbed / "benchmarks" / name).write_text((CHECKOUT / "benchmarks" / name).read_text())
    return stubbed


def test_missing_packages_are_one_line(with_shell: Path) -> None:
    done = shell(with_shell, f'exec {sys.executable} -S "$@"')  # without site-packages
    assert done.returncode == 2
    assert done.stderr.startswith("error: not installed and not in .gpu/wheels: babel, langcodes, ")
    assert done.stderr.endswith("; run `make gpu-bundle` where there is a network\n")
    assert done.stderr.count("\n") == 1


def test_wheels_that_do_not_fit_are_one_line(with_shell: Path) -> None:
    (with_shell / ".gpu" / "wheels").mkdir(parents=True)
    (with_shell / ".gpu" / "wheels" / "pydantic_core-2.0.0-cp39-cp39-win_amd64.whl").touch()
    program = f'case "$*" in *missing*) exec {sys.executable} -S "$@";; *) exec {sys.executable} "$@";; esac'
    done = shell(with_shell, program)
    assert done.returncode == 2
    assert done.stderr.startswith("error: the wheels in .gpu/wheels do not fit Python 3")
    assert "is not a supported wheel on this platform" in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_installed_needs_no_wheels(with_shell: Path) -> None:
    done = shell(with_shell, f'exec {sys.executable} "$@"', PARTS="operators")
    assert done.returncode == 0
    assert "updates" in done.stdout


TESTS = """
import pytest
pytestmark = pytest.mark.cuda
def test_good(): pass
def test_wrong(): assert 1 == 2, "one is not two"
def test_left_out(): pytest.skip("no such card")
@pytest.fixture
def broken(): raise RuntimeError("no memory")
def test_unready(broken): pass
"""


def correctness_of(folder: Path, files: dict[str, str], processes: int = 2) -> tuple[dict[str, Any], str]:
    """What the part writes down, and stderr, where tests/cuda has these files."""
    (folder / "tests" / "cuda").mkdir(parents=True)
    for name, text in files.items():
        (folder / "tests" / "cuda" / name).write_text(text)
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = cuda\n")
    path = folder / "result.json"
    program = (
        "import sys; from pathlib import Path\n"
        "from benchmarks.gpu import correctness; from benchmarks.gpu.parts import Result\n"
        "correctness.CHECKOUT, path, correctness.PROCESSES = *map(Path, sys.argv[1:3]), int(sys.argv[3])\n"
        "correctness.measure(Result(path, {'figures': {}}))"
    )
    command = [sys.executable, "-c", program, str(folder), str(path), str(processes)]
    environment = os.environ | {"DEVICE": "cpu"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    return json.loads(path.read_text()), done.stderr


def test_each_test_is_written_down_as_it_ends(tmp_path: Path) -> None:
    content, told = correctness_of(tmp_path, {"test_some.py": TESTS})
    assert "UserError: pytest ended with status 1; failed: test_" in told
    assert content["rows"][0]["figure"] == "1 passed, 2 failed, 1 skipped of 4"
    assert content["rows"][0]["met"] is False
    found = {test["name"].split("::")[1]: (test["outcome"], test["why"]) for test in content["figures"]["tests"]}
    assert found["test_good"] == ("passed", None)
    assert found["test_wrong"] == ("failed", "AssertionError: one is not two\nassert 1 == 2")
    assert found["test_left_out"] == ("skipped", "Skipped: no such card")
    assert found["test_unready"] == ("failed", "RuntimeError: no memory")


@pytest.mark.slow
def test_the_two_longest_tests_begin_in_different_processes(tmp_path: Path) -> None:
    """The order of tests/cuda, of which two train and all others end at once, as the part runs it on a GPU."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-m", "cuda", "tests/cuda"]
    listed = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout
    names = [line.removeprefix("tests/cuda/").split("::") for line in listed.splitlines() if "::" in line]
    files = dict.fromkeys((file for file, _ in names), "import pytest, time\npytestmark = pytest.mark.cuda\n")
    for number, (file, name) in enumerate(names):
        function = f"{name.split('[')[0]}_{number}"
        trains = file == "test_cuda_training.py" and "memory" not in name
        files[file] += f"def {function}(): time.sleep({3 if trains else 0.1})\n"
    content, told = correctness_of(tmp_path, files, processes=8)
    assert content["rows"][0]["figure"] == f"{len(names)} passed of {len(names)}", told
    process = {test["name"].split("::")[1]: test["process"] for test in content["figures"]["tests"]}
    longest = [process[name] for name in process if name.startswith(("test_killed", "test_torchrun"))]
    assert len(set(longest)) == 2


def test_without_a_gpu_no_test_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "2-correctness.json"
    Result(path, {"status": "running", "rows": [], "figures": {}}).write()
    command = [sys.executable, "-m", "benchmarks.gpu.part", "correctness", str(path)]
    environment = os.environ | {"DEVICE": "cuda", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("error: device 'cuda' is not available here; use auto or one of: ")
    assert done.stdout.count("\n") == 1
    assert Result.read(path).content["figures"] == {}
