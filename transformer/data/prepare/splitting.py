"""Splits of a corpus without official ones, and exact duplicates: both by a hash of the source."""

import hashlib
from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from transformer.data.parts import Split
from transformer.data.prepare.params import PreparationParams

Hashes = NDArray[np.uint64]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
PARTITION_HASHES = 1 << 23  # some 400 MB while they are sorted


def text_hash(text: str) -> int:
    """A 64-bit hash, the same on every machine; that any two of 40 million texts collide has odds of 1 to 23 000."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def split_numbers(source_hashes: Hashes, params: PreparationParams) -> NDArray[np.int8]:
    """The positions in SPLITS of pairs by their sources alone, so a growing corpus never moves a line elsewhere."""
    shares = source_hashes.astype(np.float64) / 2**64
    held_out = np.where(shares < params.test_share, SPLITS.index("test"), SPLITS.index("valid"))
    is_train = shares >= params.test_share + params.valid_share
    return np.where(is_train, SPLITS.index("train"), held_out).astype(np.int8)


def first_occurrences(read: Callable[[], Iterable[Hashes]]) -> NDArray[np.bool_]:
    """Whether each hash differs from all before it; `read()` yields the same arrays each time, and n hashes in all.

    Returns shape (n,). Only about PARTITION_HASHES of them are sorted at a time, and the arrays read once for each
    such partition.
    """
    count = sum(len(hashes) for hashes in read())
    partitions = -(-count // PARTITION_HASHES)
    first = np.zeros(count, dtype=bool)
    for partition in range(partitions):
        values, places, begin = [], [], 0
        for hashes in read():
            chosen = np.flatnonzero(hashes % np.uint64(partitions) == partition)
            values.append(hashes[chosen])
            places.append(begin + chosen)
            begin += len(hashes)
        _, earliest = np.unique(np.concatenate(values), return_index=True)
        first[np.concatenate(places)[earliest]] = True
    return first
