"""One decision about the champion at a time, on this machine."""

from contextlib import AbstractContextManager
from pathlib import Path

from transformer.files import locked


def deciding(main: Path) -> AbstractContextManager[bool]:
    """Hold the lock of the main workspace's champion; waits for it."""
    return locked(main / "work" / "promotion.lock")
