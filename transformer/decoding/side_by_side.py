"""Batches that are translated side by side on a CPU, one thread each.

Threads that share a batch wait for each other after every product, and wait long where other programs have the
cores; threads with batches of their own never wait.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Batch = TypeVar("Batch")
Found = TypeVar("Found")


def side_by_side(
    compute: Callable[[Batch], Found], batches: Sequence[Batch], device: torch.device
) -> Iterator[Found]:
    """`compute` of each batch, in order; on a CPU as many at a time as torch has threads."""
    threads = torch.get_num_threads()
    workers = min(threads, len(batches)) if device.type == "cpu" else 1
    if workers <= 1:
        yield from map(compute, batches)
        return
    pool = ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(threads // workers))
    try:
        yield from pool.map(compute, batches)
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # or threads that others start would have as few
