"""How far a transfer or an extraction is: a bar with speed and remaining time, or lines in a log."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.filesize import decimal
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 15.0


@contextmanager
def byte_progress(label: str, total: int | None, done: int = 0) -> Iterator[Callable[[int], None]]:
    """Yield a function that takes the number of bytes done so far; `total` is None where nobody knows it."""
    if not sys.stderr.isatty():
        yield _log_lines(label, total, done)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total, completed=done)
        yield lambda reached: bar.update(task, completed=reached)


def _log_lines(label: str, total: int | None, done: int) -> Callable[[int], None]:
    started = last = time.monotonic()
    logger.info("%s: %s", label, decimal(total) if total is not None else "size not announced")

    def report(reached: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS_BETWEEN_LINES:
            return
        last = now
        speed = max(reached - done, 1) / (now - started)
        remaining = f", {(total - reached) / speed:.0f} s left" if total is not None else ""
        whole = f" of {decimal(total)}" if total is not None else ""
        logger.info("%s: %s%s, %s/s%s", label, decimal(reached), whole, decimal(int(speed)), remaining)

    return report
