"""Runs of neighbouring places in a flat array, without a Python loop over them."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def offsets(counts: Integers) -> Integers:
    """Where each of n runs of these lengths begins, and where the last one ends: shape (n + 1,)."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(counts, dtype=np.int64)])


def ranges(begins: Integers, counts: Integers) -> Integers:
    """The concatenation of arange(begin, begin + count) over all entries."""
    places: Integers = np.repeat(begins - offsets(counts)[:-1], counts)
    places += np.arange(len(places))
    return places
