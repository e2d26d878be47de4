"""Decontamination: training sources that a held-out set already holds, word for word or nearly.

Two sources are near-identical when the Jaccard similarity of their sets of character trigrams, letter case,
placeholders and digits set aside, reaches a threshold. The search is exact: every two sources that could reach it
are compared. It uses the prefix filter of set-similarity joins (Chaudhuri et al. 2006; with several required matches
as in Wang et al. 2012). Let both sets be sorted from rare to frequent trigrams. Sets of sizes a and b reach a Jaccard
of t only if they share at least c = max(ceil(t a), ceil(t b)) trigrams. Then the first m <= c of the shared ones lie
within the first a - c + m of the one and the first b - c + m of the other set; only such prefixes need an index. Each
set takes its own ceil(t a) for c and an m that grows no faster than c, so its prefix is long enough for any partner;
the m of the larger set is what a candidate's prefixes must have in common.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transformer.data.cleaning import fold_text
from transformer.data.prepare.placeholders import mask

Integers = NDArray[np.int64]

CODE_POINT_BITS = 21  # three code points fit into 63 bits, so trigrams are compared themselves, not by a hash
ROWS_AT_A_TIME = 256  # bounds the memory of the candidate search
REQUIRED_SHARE = 0.35  # of the necessary overlap that must be found within the prefixes


@dataclass(frozen=True)
class TrigramSets:
    """The distinct trigrams of n texts: those of text i are trigrams[rows == i]; rows ascend."""

    rows: Integers
    trigrams: Integers
    sizes: Integers  # (n,)


def trigram_sets(texts: Sequence[str]) -> TrigramSets:
    """The sets of character trigrams of `texts`; a text of one or two characters is its own only element."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    padded = "".join(text + "\0" * (2 if len(text) < 3 else 0) for text in texts)
    points = np.frombuffer(padded.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.int64)
    widths = np.where(lengths < 3, lengths + 2, lengths)
    counts = np.where(lengths == 0, 0, np.maximum(lengths - 2, 1))
    begins = np.cumsum(widths) - widths
    rows = np.repeat(np.arange(len(texts)), counts)
    at = ranges(begins, counts)
    trigrams = (points[at] << 2 * CODE_POINT_BITS) | (points[at + 1] << CODE_POINT_BITS) | points[at + 2]
    order = np.lexsort((trigrams, rows))
    rows, trigrams = rows[order], trigrams[order]
    first = np.ones(len(rows), dtype=bool)
    first[1:] = (rows[1:] != rows[:-1]) | (trigrams[1:] != trigrams[:-1])
    rows, trigrams = rows[first], trigrams[first]
    return TrigramSets(rows, trigrams, np.bincount(rows, minlength=len(texts)))


def ranges(begins: Integers, counts: Integers) -> Integers:
    """The concatenation of arange(begin, begin + count) over all entries."""
    ends = np.cumsum(counts)
    offsets: Integers = np.repeat(begins - (ends - counts), counts)
    return offsets + np.arange(len(offsets))


class HeldOutSources:
    """An index over the held-out sources that finds training sources equal or similar to one of them."""

    def __init__(self, sources: Sequence[str], threshold: float) -> None:
        """`sources` are cleaned texts; `threshold` is the Jaccard similarity, in (0, 1]."""
        self._threshold = threshold
        self._exact = {fold_text(source) for source in sources}
        masked = sorted({fold_text(mask(source)) for source in sources} - {""})
        sets = trigram_sets(masked)
        self._sizes = sets.sizes
        # Trigrams are renumbered by rank, the rarest first.
        self._known, inverse, frequency = np.unique(sets.trigrams, return_inverse=True, return_counts=True)
        self._rank = np.empty(len(self._known), dtype=np.int64)
        self._rank[np.argsort(frequency, kind="stable")] = np.arange(len(self._known))
        ranks = self._rank[inverse]
        order = np.lexsort((ranks, sets.rows))
        rows, ranks = sets.rows[order], ranks[order]
        self._elements = ranks  # the sets one after the other, each by rank
        self._begins = np.cumsum(self._sizes) - self._sizes
        position = np.arange(len(rows)) - self._begins[rows]
        in_prefix = position < self._prefix(self._sizes)[rows]
        rows, ranks = rows[in_prefix], ranks[in_prefix]
        by_rank = np.argsort(ranks, kind="stable")
        self._postings = rows[by_rank]
        self._posting_counts = np.bincount(ranks, minlength=len(self._known))
        self._posting_begins = np.cumsum(self._posting_counts) - self._posting_counts

    def exact(self, sources: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of n cleaned sources equals a held-out one but for letter case; shape (n,)."""
        return np.array([fold_text(source) in self._exact for source in sources], dtype=bool)

    def near(self, sources: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of n cleaned sources reaches the threshold with any held-out one; shape (n,)."""
        masked = [fold_text(mask(source)) for source in sources]
        parts = [self._near(masked[i : i + ROWS_AT_A_TIME]) for i in range(0, len(masked), ROWS_AT_A_TIME)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def _near(self, masked: Sequence[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(masked), dtype=bool)
        if not len(self._known):
            return found
        sets = trigram_sets(masked)
        slot = np.minimum(np.searchsorted(self._known, sets.trigrams), len(self._known) - 1)
        known = self._known[slot] == sets.trigrams
        # Each set's known trigrams as one sorted key, row after row and within a row by rank.
        keys = np.sort(sets.rows[known] * len(self._known) + self._rank[slot[known]])
        rows, held_out = self._candidates(keys, sets.sizes)
        counts = self._sizes[held_out]
        wanted = np.repeat(rows, counts) * len(self._known) + self._elements[ranges(self._begins[held_out], counts)]
        shared = keys[np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)] == wanted
        overlap = np.bincount(np.repeat(np.arange(len(rows)), counts)[shared], minlength=len(rows))
        similar = overlap / (sets.sizes[rows] + counts - overlap) >= self._threshold
        found[rows[similar]] = True
        return found

    def _candidates(self, keys: Integers, sizes: Integers) -> tuple[Integers, Integers]:
        """Pairs (row, held-out set) that share enough trigrams of their prefixes and fit in size."""
        rows, ranks = np.divmod(keys, len(self._known))
        known_counts = np.bincount(rows, minlength=len(sizes))
        # Trigrams that no held-out source has are the rarest of all, so they come first in the prefix.
        position = np.arange(len(keys)) - (np.cumsum(known_counts) - known_counts)[rows]
        in_prefix = position + (sizes - known_counts)[rows] < self._prefix(sizes)[rows]
        rows, ranks = rows[in_prefix], ranks[in_prefix]
        counts = self._posting_counts[ranks]
        held_out = self._postings[ranges(self._posting_begins[ranks], counts)]
        pairs, matches = np.unique(np.repeat(rows, counts) * len(self._sizes) + held_out, return_counts=True)
        rows, held_out = np.divmod(pairs, len(self._sizes))
        own, other = sizes[rows], self._sizes[held_out]
        larger = np.maximum(own, other)
        enough = matches >= self._required(larger)
        fitting = np.minimum(own, other) >= self._necessary(larger)
        return rows[enough & fitting], held_out[enough & fitting]

    def _necessary(self, sizes: Integers) -> Integers:
        """How many trigrams a set must share, at least, to reach the threshold with any other set."""
        # Rounding must not raise an exact product such as 0.1 * 30 to the next integer.
        least: Integers = np.ceil(self._threshold * sizes - 1e-9).astype(np.int64)
        return least

    def _required(self, sizes: Integers) -> Integers:
        """How many shared trigrams must lie in the prefixes: at least 1, at most the necessary ones."""
        share: Integers = np.ceil(REQUIRED_SHARE * self._necessary(sizes)).astype(np.int64)
        return np.maximum(1, share)

    def _prefix(self, sizes: Integers) -> Integers:
        return sizes - self._necessary(sizes) + self._required(sizes)
