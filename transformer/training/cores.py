"""Micro-batches side by side on the cores of a CPU.

The products of a small model are too short to be shared between cores without waiting; whole micro-batches are not.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


class Cores:
    """Divides CPU threads between the micro-batches of an update; a GPU takes one after the other."""

    def __init__(self, device: torch.device, threads: int | None, micro_batches: int) -> None:
        """`threads` in all (None: one a core); `micro_batches` that an update usually has."""
        threads = threads or torch.get_num_threads()
        at_once = min(threads, micro_batches) if device.type == "cpu" else 1
        torch.set_num_threads(threads)
        self._pool = (
            ThreadPoolExecutor(at_once, initializer=lambda: torch.set_num_threads(threads // at_once))
            if at_once > 1
            else None
        )

    def map(self, function: Callable[[int], T], count: int) -> Iterator[T]:
        """function(0), …, function(count - 1), in this order however they ran."""
        return self._pool.map(function, range(count)) if self._pool else map(function, range(count))
