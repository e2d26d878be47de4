"""Planted faults: a finished checkout to plant them in, and a table of what was promised, tried and seen.

A test names its promise with `promised(promise, how)` and counts each fault that was planted and ended well. The
table at the end of the run is what docs/reliability.md holds.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_checkout import Checkout, finished_checkout
from tiny_inputs import once_a_test_run

PROMISE = "promise"


class Promise:
    """A row of the table, which grows while the test runs."""

    def __init__(self, record: Callable[[str, Any], None]) -> None:
        self._row: list[Any] = ["", "", 0]
        record(PROMISE, self._row)

    def __call__(self, promise: str, how: str) -> "Promise":
        self._row[:2] = promise, how
        return self

    def held(self, times: int = 1) -> None:
        """Count one more fault, or several, that ended as promised."""
        self._row[2] += times


@pytest.fixture
def promised(record_property: Callable[[str, Any], None]) -> Promise:
    """The row of this test."""
    return Promise(record_property)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A tiny checkout in which every stage has run; shared, never to be changed."""
    return Checkout(once_a_test_run(tmp_path_factory, "finished", finished_checkout) / "checkout")


@pytest.fixture
def checkout(finished: Checkout, tmp_path: Path) -> Iterator[Checkout]:
    """A copy of the finished checkout of this test's own."""
    copied = finished.copy_to(tmp_path / "checkout")
    yield copied
    copied.remove()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    rows: dict[tuple[str, str], tuple[int, list[str]]] = {}
    words = {"passed": "held", "failed": "FAILED", "skipped": "not tried here", "xfailed": "NOT YET"}
    for outcome, word in words.items():
        for report in terminalreporter.stats.get(outcome, []):
            for name, (promise, how, times) in (entry for entry in report.user_properties if entry[0] == PROMISE):
                assert name == PROMISE
                before, results = rows.get((promise, how), (0, []))
                rows[promise, how] = before + times, [*results, word] if word not in results else results
    if rows:
        terminalreporter.section("promises")
        terminalreporter.line("| promise | how it was tried | times | result |")
        terminalreporter.line("|---|---|---|---|")
        for (promise, how), (times, results) in rows.items():
            terminalreporter.line(f"| {promise} | {how} | {times} | {', '.join(results)} |")
