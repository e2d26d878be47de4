"""How far long work has come: a bar with the time left in a terminal, a log line now and then elsewhere."""

import logging
import math
import re
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import NamedTuple, Protocol

from rich.console import Console
from rich.filesize import decimal
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0
LINES_OF_SPEED = 5  # finished chunks of an interrupted run pass much faster, so older lines don't tell the time left
SHOWN_DATA_WAIT = 0.02  # of the time; a smaller share is normal and not shown


def ignore_progress(_done: int) -> None:
    """For callers that show no progress."""


@contextmanager
def byte_progress(label: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of bytes done so far; `total` is None where it is unknown."""
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
        yield _log_lines(label, total, amount)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), *counts, TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda reached: bar.update(task, completed=reached)


def _log_lines(label: str, total: int | None, amount: Callable[[float], str]) -> Callable[[int], None]:
    log.info("%s: %s", label, amount(total) if total is not None else "size not announced")
    lines = deque[tuple[float, int]](maxlen=LINES_OF_SPEED)

    def report(reached: int) -> None:
        now = time.monotonic()
        if not lines:  # what an interrupted run left is done, but says nothing of the speed
            lines.append((now, reached))
        if now - lines[-1][0] < SECONDS_BETWEEN_LINES:
            return
        speed = max(reached - lines[0][1], 1) / (now - lines[0][0])
        lines.append((now, reached))
        remaining = f", about {(total - reached) / speed:.0f} s left" if total is not None else ""
        whole = f" of {amount(total)}" if total is not None else ""
        log.info("%s: %s%s, %s a second%s", label, amount(reached), whole, amount(round(speed, 1)), remaining)

    return report


class TrainingLine(NamedTuple):
    """The log line that says how far training has come; `read` gets the figures back out of a log."""

    update: int
    updates: int
    figures: str  # loss, speed and time left

    def __str__(self) -> str:
        return f"update {self.update}/{self.updates}  {self.figures}"

    @classmethod
    def read(cls, line: str) -> "TrainingLine | None":
        """The figures in a line of a stage's log; None where it is some other line."""
        found = re.search(r"\bupdate (\d+)/(\d+)  (.*)", line)
        return cls(int(found[1]), int(found[2]), found[3].strip()) if found else None


class Display(Protocol):
    """Shows one log interval or one validation."""

    def training(self, update: int, metrics: dict[str, float]) -> None:
        """Show the metrics of the interval that ends at `update`."""

    def message(self, text: str) -> None:
        """Show one line that stays."""


@contextmanager
def display(updates: int, done: int) -> Iterator[Display]:
    """A display for a run of `updates`, of which `done` are done."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(updates)
        return
    figures = TextColumn("{task.fields[figures]}")
    clock = (TimeElapsedColumn(), TextColumn("ETA"), TimeRemainingColumn())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), figures, *clock)
    with Progress(*columns, console=console) as progress:
        yield _Bar(progress, progress.add_task("training", total=updates, completed=done, figures=""))


class Silent:
    """Shows nothing."""

    def training(self, update: int, metrics: dict[str, float]) -> None:
        """See `Display.training`."""

    def message(self, text: str) -> None:
        """See `Display.message`."""


class _Bar:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def training(self, update: int, metrics: dict[str, float]) -> None:
        self._progress.update(self._task, completed=update, figures=_figures(metrics))

    def message(self, text: str) -> None:
        with suppress(OSError):  # the terminal is gone; the signal that says so comes a moment later
            self._progress.console.print(text, highlight=False)


class _Lines:
    def __init__(self, updates: int) -> None:
        self._updates = updates

    def training(self, update: int, metrics: dict[str, float]) -> None:
        left = timedelta(seconds=round((self._updates - update) * metrics["seconds_per_update"]))
        log.info("%s", TrainingLine(update, self._updates, f"{_figures(metrics)}  ETA {left}"))

    def message(self, text: str) -> None:
        log.info("%s", text)


def in_figures(value: float, digits: int) -> str:
    """A number with so many decimals; a huge one, as of a training that diverges, in a few digits."""
    return f"{value:.{digits}f}" if abs(value) < 1e9 else f"{value:.{digits}g}"


def _figures(metrics: dict[str, float]) -> str:
    perplexity = math.exp(min(metrics["loss"], 100))
    figures = [
        f"loss {in_figures(metrics['loss'], 3)}",
        f"ppl {in_figures(perplexity, 1)}",
        f"lr {metrics['learning_rate']:.2e}",
        f"{metrics['target_tokens_per_second']:,.0f} tokens/s",
    ]
    if "model_flops_utilization" in metrics:
        figures.append(f"MFU {metrics['model_flops_utilization']:.1%}")
    if metrics["data_wait_share"] >= SHOWN_DATA_WAIT:
        figures.append(f"data wait {metrics['data_wait_share']:.1%}")
    return "  ".join(figures)
