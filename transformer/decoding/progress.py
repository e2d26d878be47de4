"""Progress of a long translation: a bar with ETA on a terminal, a log line now and then elsewhere."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

log = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


def ignore_progress(sentences: int) -> None:
    """For callers that show no progress."""


@contextmanager
def sentence_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Yield a function to call with the number of sentences just done out of `total`."""
    if sys.stderr.isatty():
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda count: bar.advance(task, count)
    else:
        yield _LogLines(what, total)


class _LogLines:
    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done = what, total, 0
        self.started = self.last_line = time.monotonic()

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last_line >= SECONDS_BETWEEN_LINES and self.done < self.total:
            self.last_line = now
            left = (now - self.started) / self.done * (self.total - self.done)
            log.info("%s: %d of %d sentences, about %.0f s left", self.what, self.done, self.total, left)
