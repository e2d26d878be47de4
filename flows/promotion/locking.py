"""One decision about the champion at a time, on this machine."""

from contextlib import AbstractContextManager
from pathlib import Path

from transformer.files import locked


def deciding(main: Path) -> AbstractContextManager[None]:
    """Hold the lock of the main workspace's champion; waits for it."""
    path = main / "work" / "promotion.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    return locked(path)
