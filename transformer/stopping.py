"""The signals by which a person or a machine asks a process to stop, and what a lost terminal leaves of its words."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

Handler = Callable[[int, FrameType | None], object]


def stop_signals() -> tuple[signal.Signals, ...]:
    """SIGINT, SIGTERM, and SIGHUP, which a lost connection sends, unless `nohup` has this process ignore that."""
    asked = (signal.SIGINT, signal.SIGTERM)
    return asked if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (*asked, signal.SIGHUP)


def handle_stop_signals(handler: Handler | signal.Handlers) -> dict[signal.Signals, Any]:
    """Have `handler` called for each of them, or SIG_IGN ignore them; returns the former handlers.

    After SIGHUP nothing is written to the terminal any more: it would be an error of its own.
    """

    if isinstance(handler, signal.Handlers):
        return {number: signal.signal(number, handler) for number in stop_signals()}

    terminals = [descriptor for descriptor in (1, 2) if os.isatty(descriptor)]  # a lost one no longer says so

    def handle(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            _send_nowhere(terminals)
        handler(number, frame)

    return {number: signal.signal(number, handle) for number in stop_signals()}


def _send_nowhere(descriptors: list[int]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


class StopRequest:
    """Says whether a signal has come, and which."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for the signals during the body; the previous handlers are restored after it."""
    request = StopRequest()
    former = handle_stop_signals(request)
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
