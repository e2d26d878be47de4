"""How far long work is: a bar with the remaining time in a terminal, a log line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


def ignore_progress(_done: int) -> None:
    """For callers that show no progress."""


@contextmanager
def byte_progress(label: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of bytes done so far; `total` is None where nobody knows it."""
    with _progress(label, total, done, (DownloadColumn(), TransferSpeedColumn()), _bytes) as report:
        yield report


@contextmanager
def chunk_progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of chunks done so far."""
    with _progress(label, total, 0, (MofNCompleteColumn(),), "{:.10g} chunks".format) as report:
        yield report


@contextmanager
def sentence_progress(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of sentences just done."""
    with _progress(label, total, 0, (MofNCompleteColumn(),), "{:.10g} sentences".format) as report:
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            report(done)

        yield advance


def _bytes(count: float) -> str:
    return decimal(int(count))


@contextmanager
def _progress(
    label: str, total: int | None, done: int, counts: tuple[ProgressColumn, ...], amount: Callable[[float], str]
) -> Iterator[Callable[[int], None]]:
    if not sys.stderr.isatty():
        yield _log_lines(label, total, done, amount)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda reached: bar.update(task, completed=reached)


def _log_lines(label: str, total: int | None, done: int, amount: Callable[[float], str]) -> Callable[[int], None]:
    started = last = time.monotonic()
    log.info("%s: %s", label, amount(total) if total is not None else "size not announced")

    def report(reached: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        speed = max(reached - done, 1) / (now - started)
        remaining = f", about {(total - reached) / speed:.0f} s left" if total is not None else ""
        whole = f" of {amount(total)}" if total is not None else ""
        log.info("%s: %s%s, %s a second%s", label, amount(reached), whole, amount(round(speed, 1)), remaining)

    return report
