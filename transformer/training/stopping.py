"""SIGTERM and SIGINT ask training to end after the update at hand, with its state saved."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Set once a signal has come."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for the signals; the former handlers come back at the end."""
    request = StopRequest()
    former = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
