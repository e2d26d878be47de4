"""One decision about the champion at a time, on this machine."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def deciding(main: Path) -> Iterator[None]:
    """Hold the lock of the main workspace's champion during the body; waits for it."""
    path = main / "work" / "promotion.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
