"""Stopping processes: SIGTERM first, so that they can save their state, and SIGKILL after a grace period."""

import signal
import time
from collections.abc import Callable

_POLL_SECONDS = 0.05


def end(send: Callable[[signal.Signals], None], gone: Callable[[], bool], grace: float) -> None:
    """Call `send` with SIGTERM and wait until `gone`; after `grace` seconds the same with SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        send(number)
        deadline = time.monotonic() + grace
        while not gone():
            if time.monotonic() > deadline:
                break
            time.sleep(_POLL_SECONDS)
        else:
            return
