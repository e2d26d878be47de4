"""What every search finds, whichever engine it runs in; nothing here needs torch, which takes a second to import."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformer.tokens.vocabulary import BOS, PAD, UNK

if TYPE_CHECKING:
    from torch import Tensor

NEVER_EMITTED = (PAD, UNK, BOS)


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation: token ids without the end of sentence, and log P(Y|X) / lp(Y)."""

    tokens: list[int]
    score: float


def length_penalty(length: "Tensor | float", alpha: float) -> "Tensor | float":
    """lp(Y) = ((5 + |Y|) / 6) ** alpha (Wu et al. 2016, equation 14); |Y| counts the end of sentence."""
    return ((5.0 + length) / 6.0) ** alpha
