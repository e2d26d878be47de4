"""Splits of a corpus without official ones, and exact duplicates: both by a hash of the source."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from transformer.data.parts import Split
from transformer.data.prepare.params import PreparationParams

Hashes = NDArray[np.uint64]


def text_hash(text: str) -> int:
    """A 64-bit hash, the same on every machine; that any two of 40 million texts collide has odds of 1 to 23 000."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def split_of(source_hash: int, params: PreparationParams) -> Split:
    """The split of a pair by its source alone, so a growing corpus never moves a line to another split."""
    share = source_hash / 2**64
    if share < params.test_share:
        return "test"
    return "valid" if share < params.test_share + params.valid_share else "train"


class SeenHashes:
    """A set of hashes in 8 bytes each: sorted arrays, each at least twice as long as the next."""

    def __init__(self) -> None:
        self._runs: list[Hashes] = []

    def add(self, hashes: Hashes) -> NDArray[np.bool_]:
        """Add `hashes`, shape (n,); returns (n,), True for each that was neither in the set nor before it."""
        unique, first = np.unique(hashes, return_index=True)
        unseen = np.ones(len(unique), dtype=bool)
        for run in self._runs:
            unseen &= run[np.minimum(np.searchsorted(run, unique), len(run) - 1)] != unique
        new = np.zeros(len(hashes), dtype=bool)
        new[first[unseen]] = True
        self._insert(unique[unseen])
        return new

    def _insert(self, run: Hashes) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
