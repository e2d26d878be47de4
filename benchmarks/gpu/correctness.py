"""Part 2: the tests of `tests/cuda`, some at a time, as most of their time goes to compiling on the CPU."""

import os
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.parts import Result, Row
from benchmarks.gpu.setting import CHECKOUT, DEVICE, REHEARSAL
from transformer.errors import UserError
from transformer.model.device import select_device

PROCESSES = 2 if REHEARSAL else 8
COMPILERS = 2  # processes that compile for each of them; by default there would be as many as cores
LONGEST = "test_cuda_training"  # its whole trainings take as long as all the rest: they begin first


class Recorder:
    """A plugin of pytest that writes each test down as it ends."""

    def __init__(self, result: Result) -> None:
        self.result = result
        self.expected: int | None = None
        self.tests: list[dict[str, Any]] = []

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        """A process of tests knows what there is to run."""
        self.expected = len(ids)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file could not be imported."""
        if report.failed:
            self._add(report.nodeid, "failed", 0.0, str(report.longrepr))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test, its fixtures before it or after it have ended."""
        if report.when == "call" or not report.passed:
            why = report.longrepr[2] if isinstance(report.longrepr, tuple) else _reason(report)
            self._add(report.nodeid, report.outcome, report.duration, why, getattr(report, "worker_id", None))

    def _add(self, name: str, outcome: str, seconds: float, why: str | None, process: str | None = None) -> None:
        test = {"name": name, "outcome": outcome, "seconds": round(seconds, 1), "why": why and why[:500],
                "process": process}  # fmt: skip
        self.tests.append(test)
        self.result.record(rows=[self.row()], expected=self.expected, tests=self.tests, **self.counted())

    def counted(self) -> dict[str, int]:
        """How many tests ended in which way."""
        return {outcome: self.named(outcome) for outcome in ("passed", "failed", "skipped")}

    def named(self, outcome: str) -> int:
        """How many tests ended so."""
        return sum(test["outcome"] == outcome for test in self.tests)

    def row(self) -> Row:
        """The table's line."""
        told = ", ".join(f"{count} {outcome}" for outcome, count in self.counted().items() if count)
        met = self.named("failed") == 0 and len(self.tests) == self.expected
        return Row("correctness, `tests/cuda`", f"{told} of {self.expected}", "all pass", met)


def _reason(report: pytest.TestReport) -> str | None:
    """The line of a failure that says what was wrong."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash else str(report.longrepr) if report.failed else None


def measure(result: Result) -> None:
    """Run the tests; each with its outcome, seconds and the reason of what failed or was skipped.

    Raises:
        UserError: a test failed, or none ran. Or there is no GPU.
    """
    select_device(DEVICE)
    os.chdir(CHECKOUT)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(COMPILERS)
    recorder = Recorder(result)
    files = sorted(Path("tests/cuda").glob("test_*.py"), key=lambda file: (file.stem != LONGEST, file))
    asked = ["-m", "cuda", *map(str, files), "-q", "--show-capture=stderr", "-p", "no:cacheprovider"]
    status = pytest.main([*asked, "-n", str(PROCESSES), "--dist=worksteal"], plugins=[recorder])
    if status != pytest.ExitCode.OK:
        failed = ", ".join(test["name"].split("::")[-1] for test in recorder.tests if test["outcome"] == "failed")
        raise UserError(f"pytest ended with status {int(status)}; failed: {failed or 'see the log'}")
