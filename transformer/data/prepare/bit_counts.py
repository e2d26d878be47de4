"""Counting bits by columns, 64 columns a machine word."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Integers = NDArray[np.int64]

_NONE, _ALL = np.uint64(0), ~np.uint64(0)


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
