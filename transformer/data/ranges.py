"""Runs of neighbouring places in a flat array, without a Python loop over them."""

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]


def ranges(begins: Integers, counts: Integers) -> Integers:
    """The concatenation of arange(begin, begin + count) over all entries."""
    ends = np.cumsum(counts)
    offsets: Integers = np.repeat(begins - (ends - counts), counts)
    offsets += np.arange(len(offsets))
    return offsets
