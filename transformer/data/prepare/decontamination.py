"""Decontamination: training text that a held-out set already holds, word for word or nearly, on either side.

Two texts are near-identical when the Jaccard similarity of their sets of character trigrams, letter case,
placeholders and digits ignored, reaches a threshold. The search is exact: sets of sizes a and b reach a Jaccard of
t only if they share at least t a and t b trigrams, and how many a text shares with each held-out set is counted for
64 sets at a time. Each trigram has a row of bits, one for each held-out set, and the rows of the text's trigrams
are added column by column in binary (a carry-save adder), so that the time does not depend on how frequent a trigram
is, as it would with an inverted index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray

from transformer.data.cleaning import fold_text
from transformer.data.placeholders import mask
from transformer.tokens.ranges import Integers, offsets, ranges

CODE_POINT_BITS = 21  # three code points fit into 63 bits, so trigrams are compared themselves, not by a hash
ROWS_AT_A_TIME = 512  # texts whose trigrams are sorted together
BLOCK_ROWS = 16  # of them, texts of similar size whose bits are counted together: the rows of bits fit into a cache
# What a verdict on a training pair says, by its number less one; 0: nothing held out is similar.
VERDICTS = ("held_out_exact", "held_out_near", "held_out_target_exact", "held_out_target_near")
Words = NDArray[np.uint64]
_NONE, _ALL = np.uint64(0), ~np.uint64(0)


@dataclass(frozen=True)
class TrigramSets:
    """The distinct trigrams of n texts, k in all: text rows[i] holds trigrams[which[i]]."""

    rows: Integers
    which: Integers
    trigrams: Integers  # (k,), ascending
    sizes: Integers  # (n,)


def trigram_sets(texts: Sequence[str]) -> TrigramSets:
    """The sets of character trigrams of `texts`; a text of one or two characters is the only element of its set."""
    lengths = np.array([len(text) for text in texts], dtype=np.int64)
    joined = "\0\0".join([*texts, ""]) or "\0\0"
    points = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    # Code points are renumbered without gaps, so that a trigram and its row fit into one integer to sort by.
    present = np.zeros(int(points.max()) + 1, dtype=bool)
    present[points] = True
    alphabet = np.flatnonzero(present)
    bits, row_bits = (max(count - 1, 1).bit_length() for count in (len(alphabet), len(texts)))
    local = (np.cumsum(present) - 1)[points]
    local = (local[:-2] << 2 * bits) | (local[1:-1] << bits) | local[2:]
    counts = np.where(lengths == 0, 0, np.maximum(lengths - 2, 1))
    local = local[ranges(offsets(lengths + 2)[:-1], counts)]
    rows = np.repeat(np.arange(len(texts)), counts)
    if 3 * bits + row_bits < 64:
        keys = np.sort((local << row_bits) | rows)
        local, rows = keys >> row_bits, keys & ((1 << row_bits) - 1)
    else:
        order = np.lexsort((rows, local))
        local, rows = local[order], rows[order]
    new = _changes(local)
    distinct = new | _changes(rows)
    rows, which, local = rows[distinct], (np.cumsum(new) - 1)[distinct], local[new]
    digits = (alphabet[(local >> shift) & ((1 << bits) - 1)] for shift in (2 * bits, bits, 0))
    first, second, third = digits
    trigrams = (first << 2 * CODE_POINT_BITS) | (second << CODE_POINT_BITS) | third
    return TrigramSets(rows, which, trigrams, np.bincount(rows, minlength=len(texts)))


def _changes(values: Integers) -> NDArray[np.bool_]:
    """Where an entry differs from the one before it; the first one does."""
    changes = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=changes[1:])
    return changes


class HeldOutTexts:
    """An index over one side of the held-out pairs that finds training texts equal or similar to one of them."""

    def __init__(self, texts: Sequence[str], threshold: float) -> None:
        """`texts` are cleaned; `threshold` is the Jaccard similarity, in (0, 1].

        1 stands for equal texts, letter case, placeholders and digits ignored, which needs no trigrams.
        """
        self._threshold = threshold
        self._exact = {fold_text(text) for text in texts}
        self._masked = {fold_text(mask(text)) for text in texts} - {""}
        sets = trigram_sets(sorted(self._masked) if threshold < 1 else [])
        # Sets are renumbered by size, so that those whose size can match a text's are consecutive.
        number = np.empty(len(sets.sizes), dtype=np.int64)
        number[np.argsort(sets.sizes, kind="stable")] = np.arange(len(sets.sizes))
        self._sizes = np.sort(sets.sizes)
        self._known = sets.trigrams
        rows = number[sets.rows]
        holders = np.zeros((len(self._known) + 1, -(-len(self._sizes) // 64) * 8), dtype=np.uint8)
        np.bitwise_or.at(holders, (sets.which, rows >> 3), (1 << (rows & 7)).astype(np.uint8))
        self._holders = holders.view("<u8")  # (known trigrams + 1, sets / 64): bits; the last row is empty

    def exact(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of n cleaned texts equals a held-out one except for letter case; shape (n,)."""
        return np.array([fold_text(text) in self._exact for text in texts], dtype=bool)

    def near(self, texts: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of n cleaned texts reaches the threshold with any held-out one; shape (n,)."""
        masked = [fold_text(mask(text)) for text in texts]
        if self._threshold == 1:
            return np.array([text in self._masked for text in masked], dtype=bool)
        parts = [self._near(masked[i : i + ROWS_AT_A_TIME]) for i in range(0, len(masked), ROWS_AT_A_TIME)]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=bool)

    def _near(self, masked: Sequence[str]) -> NDArray[np.bool_]:
        found = np.zeros(len(masked), dtype=bool)
        if not len(self._known):
            return found
        sets = trigram_sets(masked)
        elements, counts = self._known_elements(sets)
        by_size = np.argsort(sets.sizes, kind="stable")
        for begin in range(0, len(by_size), BLOCK_ROWS):
            block = by_size[begin : begin + BLOCK_ROWS]
            found[block] = self._near_block(elements[: counts[block].max(), block], sets.sizes[block])
        return found

    def _known_elements(self, sets: TrigramSets) -> tuple[Integers, Integers]:
        """The known trigrams of each of n sets by their numbers, (most of a set, n), filled up; how many, (n,)."""
        slot = np.minimum(np.searchsorted(self._known, sets.trigrams), len(self._known) - 1)
        number = np.where(self._known[slot] == sets.trigrams, slot, -1)[sets.which]
        rows, number = sets.rows[number >= 0], number[number >= 0]
        order = np.argsort(rows, kind="stable")
        rows, number = rows[order], number[order]
        counts = np.bincount(rows, minlength=len(sets.sizes))
        elements = np.full((int(counts.max()), len(counts)), len(self._known))
        elements[np.arange(len(rows)) - offsets(counts)[rows], rows] = number
        return elements, counts

    def _near_block(self, elements: Integers, sizes: Integers) -> NDArray[np.bool_]:
        """Which of these sets, in order of size, reach the threshold."""
        found = np.zeros(len(sizes), dtype=bool)
        largest = sizes[-1] / self._threshold + 1e-6
        begin = int(np.searchsorted(self._sizes, self._necessary(sizes[:1])[0])) // 64
        end = -(-int(np.searchsorted(self._sizes, largest, side="right")) // 64)
        if begin >= end or not len(elements):
            return found
        words = self._holders[:, begin:end]
        rows, columns = columns_at_least(bit_counts(words[elements]), np.maximum(self._necessary(sizes), 1))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True):
            overlap = int(np.sum(words[elements[:, row], column >> 6] >> np.uint64(column & 63) & np.uint64(1)))
            union = sizes[row] + self._sizes[begin * 64 + column] - overlap
            found[row] |= overlap / union >= self._threshold
        return found

    def _necessary(self, sizes: Integers) -> Integers:
        """How many trigrams a set must share, at least, to reach the threshold with any other set."""
        # Rounding must not raise an exact product such as 0.1 * 30 to the next integer.
        least: Integers = np.ceil(self._threshold * sizes - 1e-9).astype(np.int64)
        return least


class HeldOut(NamedTuple):
    """What training pairs are compared with; None: that side is not compared."""

    sources: HeldOutTexts | None
    targets: HeldOutTexts | None


def judge_chunk(held_out: HeldOut, pairs: pyarrow.Table) -> pyarrow.Table:
    """A column `verdict` (int8) for n cleaned pairs: 0, or 1 + the place in VERDICTS of the first that is true."""
    verdict = np.zeros(pairs.num_rows, dtype=np.int8)
    for side, texts, exact, near in (("source", held_out.sources, 1, 2), ("target", held_out.targets, 3, 4)):
        rows = np.flatnonzero(verdict == 0)
        if texts is not None and len(rows):
            column = pairs.column(side).take(rows).to_pylist()
            verdict[rows] = np.where(texts.exact(column), exact, np.where(texts.near(column), near, 0))
    return pyarrow.table({"verdict": verdict})


def bit_counts(words: Words) -> list[Words]:
    """How often each bit is set along the first axis of `words`, shape (n, ...).

    Returns binary digits, lowest first: bit b of entry k is digit k of the count of bit b. Words are added three at a
    time into a sum and a carry until one of each weight is left.
    """
    digits = []
    while len(words):
        carries = []
        while len(words) > 1:
            third = len(words) // 3
            if third:
                a, b, c = (words[i * third : (i + 1) * third] for i in range(3))
                odd = a ^ b
                carries.append((a & b) | (odd & c))
                words = np.concatenate([odd ^ c, words[3 * third :]])
            else:
                carries.append(words[:1] & words[1:])
                words = words[:1] ^ words[1:]
        digits.append(words[0])
        words = np.concatenate(carries) if carries else words[:0]
    return digits


def columns_at_least(digits: Sequence[Words], least: Integers) -> tuple[Integers, Integers]:
    """Row and column of every bit whose count is `least` of its row or more.

    `digits` are counts of `bit_counts`, each of shape (rows, words); `least`, shape (rows,), is positive.
    """
    more = np.zeros_like(digits[0])
    equal = np.full_like(digits[0], _ALL)
    for place in reversed(range(max(len(digits), int(least.max()).bit_length()))):
        wanted = np.where(least >> place & 1, _ALL, _NONE)[:, None]
        digit = digits[place] if place < len(digits) else _NONE
        more |= equal & digit & ~wanted
        equal &= ~(digit ^ wanted)
    rows, at = np.nonzero(more | equal)
    found, bit = np.nonzero(np.unpackbits(_bytes((more | equal)[rows, at]), axis=1, bitorder="little"))
    return rows[found], at[found] * 64 + bit


def _bytes(words: Words) -> NDArray[np.uint8]:
    return words.astype("<u8").view(np.uint8).reshape(-1, 8)
