"""What a person sees of training: a live bar in a terminal, plain lines elsewhere."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger(__name__)

SHOWN_DATA_WAIT = 0.02  # of the time; less is as it should be


class Display(Protocol):
    """Shows one log interval or one validation."""

    def training(self, update: int, metrics: dict[str, float]) -> None:
        """Show the metrics of the interval that ends at `update`."""

    def message(self, text: str) -> None:
        """Show one line that stays."""


@contextmanager
def display(updates: int, done: int) -> Iterator[Display]:
    """A display for a run of `updates` of which `done` are behind it."""
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
        self._progress.console.print(text, highlight=False)


class _Lines:
    def __init__(self, updates: int) -> None:
        self._updates = updates

    def training(self, update: int, metrics: dict[str, float]) -> None:
        left = timedelta(seconds=round((self._updates - update) * metrics["seconds_per_update"]))
        log.info("update %d/%d  %s  ETA %s", update, self._updates, _figures(metrics), left)

    def message(self, text: str) -> None:
        log.info("%s", text)


def _figures(metrics: dict[str, float]) -> str:
    perplexity = math.exp(min(metrics["loss"], 100))
    figures = [
        f"loss {metrics['loss']:.3f}",
        f"ppl {perplexity:.1f}",
        f"lr {metrics['learning_rate']:.2e}",
        f"{metrics['target_tokens_per_second']:,.0f} tokens/s",
    ]
    if "model_flops_utilization" in metrics:
        figures.append(f"MFU {metrics['model_flops_utilization']:.1%}")
    if metrics["data_wait_share"] >= SHOWN_DATA_WAIT:
        figures.append(f"data wait {metrics['data_wait_share']:.1%}")
    return "  ".join(figures)
