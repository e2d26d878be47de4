"""Part 2: the tests of `tests/cuda`, some at a time, as most of their time goes to compiling on the CPU."""

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

from benchmarks.gpu.parts import Result, Row
from benchmarks.gpu.setting import CHECKOUT, REHEARSAL
from transformer.errors import UserError

OUTCOMES = ("passed", "failed", "skipped")
PROCESSES = 2 if REHEARSAL else 4


def measure(result: Result) -> None:
    """Run pytest; every test with its outcome, seconds and the reason of what failed or was skipped.

    Raises:
        UserError: a test failed, or none ran.
    """
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.xml")
        command = [sys.executable, "-m", "pytest", "-m", "cuda", "tests/cuda", "-q", "--show-capture=stderr",
                   "-p", "no:cacheprovider", f"--junitxml={report}"]  # fmt: skip
        command += ["-n", str(PROCESSES), "--dist=worksteal"]
        # Processes that compile; by default there would be as many as cores for each of the tests' processes.
        environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": "4"}
        status = subprocess.run(command, cwd=CHECKOUT, env=environment, check=False).returncode
        tests = outcomes(report) if report.exists() else []
    counted = {outcome: sum(test["outcome"] == outcome for test in tests) for outcome in OUTCOMES}
    figure = ", ".join(f"{count} {outcome}" for outcome, count in counted.items() if count) or "none ran"
    good = status == 0 and counted["passed"] > 0
    result.record(rows=[Row("correctness, `tests/cuda`", figure, "all pass", good)], **counted, tests=tests)
    if not good:
        names = ", ".join(test["name"] for test in tests if test["outcome"] == "failed")
        raise UserError(f"pytest ended with status {status}; failed: {names or 'see the log'}")


def outcomes(report: Path) -> list[dict[str, Any]]:
    """The tests of a JUnit report."""
    found = []
    for case in ET.parse(report).iter("testcase"):
        bad, skipped = case.find("failure"), case.find("skipped")
        bad = case.find("error") if bad is None else bad
        outcome = "failed" if bad is not None else "skipped" if skipped is not None else "passed"
        told = bad if bad is not None else skipped
        found.append(
            {
                "name": case.get("name"),
                "outcome": outcome,
                "seconds": float(case.get("time", 0)),
                "why": None if told is None else (told.get("message") or "")[:500],
            }
        )
    return found
