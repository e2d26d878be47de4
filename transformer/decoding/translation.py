"""What a translation can be asked for, and what it then says of itself."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from transformer.data.placeholders import KINDS
from transformer.decoding.hypothesis import Hypothesis, length_penalty
from transformer.errors import ParamsError


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn: from softmax(logits / temperature), of the `top_k` likeliest, of all where that is 0."""

    seed: int = 1
    temperature: float = 1.0
    top_k: int = 0


@dataclass(frozen=True)
class Options:
    """Beyond the text of the best translation.

    Raises:
        ParamsError: there is no such kind to protect, or the options exclude each other.
    """

    protect: Collection[str] = ()  # kinds of transformer.data.placeholders.KINDS that are copied exactly
    long_lines: Literal["cut", "split"] = "cut"  # what is longer than the model's positions
    sampling: Sampling | None = None  # draw translations instead of searching the best
    details: bool = False  # tokens, their scores and alignment

    def __post_init__(self) -> None:
        if unknown := [kind for kind in self.protect if kind not in KINDS]:
            raise ParamsError(f"nothing called {unknown[0]!r} can be protected; choose of {', '.join(KINDS)}")
        if self.protect and self.sampling:
            raise ParamsError("what is drawn at random can't be protected: leave out sampling or protect")


@dataclass(frozen=True)
class Details:
    """The tokens of a sentence and its translation, both with the end of sentence."""

    source_tokens: list[str]
    tokens: list[str]
    token_log_probs: list[float]  # given the source and the tokens before
    alignment: list[list[float]]  # for each token the weights of the source tokens, which sum to 1


@dataclass(frozen=True)
class Translation:
    """A translated line and its score, log P / length penalty."""

    text: str
    score: float
    log_prob: float = 0.0  # log P
    length: int = 0  # tokens, end of sentence included
    cut: bool = False  # the source was longer than the model reads, or the text reached the longest length
    not_kept: tuple[str, ...] = ()  # what was to be protected and is not as it is in the source
    details: Details | None = None
    sentences: tuple["Sentence", ...] = ()  # of a line that was split


@dataclass(frozen=True)
class Sentence:
    """A sentence of a line that was split."""

    source: str
    translation: Translation


NOTHING = Translation("", 0.0)  # the only translation of an empty line


def joined(sentences: list[Sentence], space: str, alpha: float) -> Translation:
    """The translation of a split line: the texts in order, `space` between them, scored as one translation."""
    each = [sentence.translation for sentence in sentences]
    log_prob, length = sum(one.log_prob for one in each), sum(one.length for one in each)
    return Translation(
        space.join(one.text for one in each if one.text),
        log_prob / float(length_penalty(float(length), alpha)),
        log_prob,
        length,
        cut=any(one.cut for one in each),
        not_kept=tuple(text for one in each for text in one.not_kept),
        sentences=tuple(sentences),
    )


def distinct(found: Iterable[tuple[str, Hypothesis]], most: int) -> list[tuple[str, Hypothesis]]:
    """The `most` best hypotheses, best first; of those that spell the same text only the best."""
    best: dict[str, tuple[str, Hypothesis]] = {}
    for text, hypothesis in sorted(found, key=lambda one: -one[1].score):
        best.setdefault(text, (text, hypothesis))
    return list(best.values())[:most]
