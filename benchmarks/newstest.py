"""Sentence pairs of random pieces whose lengths are distributed as newstest's: measuring speed needs no more."""

import numpy as np
from numpy.typing import NDArray

from transformer.tokens.ranges import offsets
from transformer.tokens.store import TokenSide, TokenSplit
from transformer.tokens.vocabulary import EOS, Vocabulary

# newstest2013 (WMT), 3000 pairs, in tokens of sacreBLEU's 13a: every twentieth part of the English lengths, and the
# mean and spread of log(German length / English length). Byte-pair pieces are somewhat more.
SOURCE_QUANTILES = (1, 6, 8, 10, 11, 13, 14, 15, 16, 18, 19, 20, 22, 24, 26, 28, 30, 33, 38, 46, 103)
LOG_RATIO_MEAN, LOG_RATIO_DEVIATION = -0.019, 0.189


class Pieces(Vocabulary):
    """A vocabulary of a size, whose pieces spell nothing."""

    def __init__(self, size: int) -> None:
        self._size = size

    @property
    def size(self) -> int:
        """Number of pieces, special ids included."""
        return self._size


def sentence_lengths(pairs: int, seed: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Source and target lengths of this many pairs, EOS included."""
    random = np.random.default_rng(seed)
    source = np.interp(random.random(pairs), np.linspace(0, 1, len(SOURCE_QUANTILES)), SOURCE_QUANTILES)
    target = source * np.exp(random.normal(LOG_RATIO_MEAN, LOG_RATIO_DEVIATION, pairs))
    return np.rint(source).astype(np.int64) + 1, np.maximum(np.rint(target), 1).astype(np.int64) + 1


def random_split(pairs: int, vocabulary_size: int, seed: int = 1) -> TokenSplit:
    """Pairs of newstest's lengths, their pieces drawn alike."""
    random = np.random.default_rng(seed)
    return TokenSplit(*(_side(lengths, vocabulary_size, random) for lengths in sentence_lengths(pairs, seed)))


def _side(lengths: NDArray[np.int64], vocabulary_size: int, random: np.random.Generator) -> TokenSide:
    places = offsets(lengths)
    ids = random.integers(EOS + 1, vocabulary_size, places[-1], dtype=np.uint32)
    ids[places[1:] - 1] = EOS
    return TokenSide(ids, places)
