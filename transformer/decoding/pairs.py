"""Given translations scored as the search scores its own: for filtering corpora and for audits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from transformer.data.cleaning import clean_text
from transformer.decoding.hypothesis import length_penalty
from transformer.decoding.line_translator import batches_by_length
from transformer.decoding.scoring import score_tokens
from transformer.decoding.search import beam_search
from transformer.decoding.segmentation import WholeTexts
from transformer.decoding.spelling import Spelling
from transformer.decoding.translator import Translator
from transformer.errors import DeviceMemoryError
from transformer.model.device import autocast
from transformer.progress import ignore_progress
from transformer.tokens.vocabulary import EOS, PAD


@dataclass(frozen=True)
class PairScore:
    """What a model finds of a pair, or the reason why it can't tell."""

    score: float  # log P(target | source) / length penalty, as a translation's
    log_prob: float
    tokens: list[str]  # of the target, end of sentence included
    token_log_probs: list[float]  # given the source and the tokens before
    problem: str = ""


@dataclass(frozen=True)
class Pair:
    """A cleaned target, and the token ids of both sides without end of sentence."""

    text: str
    source: list[int]
    target: list[int]


NOTHING = PairScore(0.0, 0.0, [], [])  # an empty line for an empty line, as the translator does


class PairScorer:
    """Scores with a translator's models, precision, length penalty and batches.

    With `search`, each target is scored in the segmentation that a beam search finds likeliest, so that the search's
    own translations have the search's own scores; else as the vocabulary segments it, which is faster.
    """

    def __init__(self, translator: Translator, *, search: bool) -> None:
        self.translator = translator
        self._spelling = translator.spelling if search else None
        self._most = translator.decoder.params.max_positions - 1  # tokens of a side, without the end of sentence

    def score(
        self, sources: list[str], targets: list[str], on_scored: Callable[[int], None] = ignore_progress
    ) -> list[PairScore]:
        """Score each pair, both sides cleaned as training text is; `on_scored` gets each batch's number of pairs.

        Pairs that the model cannot make, without a source or longer than its positions, score minus infinity and say
        so in `problem`.

        Raises:
            DeviceMemoryError: a batch does not fit the device's memory.
        """
        texts, encode = list(map(clean_text, targets)), self.translator.vocabulary.encode_batch
        sides = zip(texts, encode(list(map(clean_text, sources))), encode(texts), strict=True)
        pairs = [Pair(*side) for side in sides]
        found = [self._unscored(pair) for pair in pairs]
        longest = [max(len(pair.source), len(pair.target)) + 1 for pair in pairs]
        lengths = [0 if one else length for one, length in zip(found, longest, strict=True)]
        on_scored(lengths.count(0))
        for batch in batches_by_length(lengths, self.translator.decoding.batch_tokens):
            scored = self._scored([pairs[index] for index in batch])
            for index, one in zip(batch, scored, strict=True):
                found[index] = one
            on_scored(len(batch))
        return [one for one in found if one]

    def _unscored(self, pair: Pair) -> PairScore | None:
        """What is known without the model."""
        if not pair.source:
            return _impossible("the source is empty") if pair.target else NOTHING
        if len(pair.source) > self._most:
            return _too_long("source", pair.source, self._most)
        most = self._most * (2 if self._spelling else 1)  # other pieces may be fewer, not half as many
        if len(pair.target) > most:
            return _too_long("target", pair.target, self._most)
        return None

    def _scored(self, pairs: list[Pair]) -> list[PairScore]:
        device = self.translator.device
        try:
            with torch.inference_mode(), autocast(device, self.translator.precision):
                ways = [[pair.target] for pair in pairs]
                if self._spelling:
                    for some, other in zip(ways, self._segmented(pairs, self._spelling), strict=True):
                        some += other
                ways = [[one for one in some if len(one) <= self._most] for some in ways]
                flat = [(pair, one) for pair, some in zip(pairs, ways, strict=True) for one in some]
                scores = iter(self._in_pieces([pair for pair, _ in flat], [one for _, one in flat]))
        except torch.OutOfMemoryError:
            longest = max(max(len(pair.source), len(pair.target)) for pair in pairs)
            raise DeviceMemoryError(
                f"{len(pairs)} pairs of up to {longest} tokens do not fit the memory of {device}: "
                f"lower decoding.batch_tokens = {self.translator.decoding.batch_tokens}"
            ) from None
        each = [[next(scores) for _ in some] for some in ways]
        too_long = [_too_long("target", pair.target, self._most) for pair in pairs]
        return [max(some or [one], key=lambda way: way.score) for some, one in zip(each, too_long, strict=True)]

    def _segmented(self, pairs: list[Pair], spelling: Spelling) -> list[list[list[int]]]:
        """The likeliest pieces of each target; none where they don't fit the positions."""
        longest = max(len(pair.source) for pair in pairs) + 1
        padded = [[*pair.source, EOS] + [PAD] * (longest - len(pair.source) - 1) for pair in pairs]
        source, texts = torch.tensor(padded, device=self.translator.device), [pair.text for pair in pairs]
        found = beam_search(self.translator.network, source, self.translator.decoding, 1, WholeTexts(spelling, texts))
        return [[one.tokens for one in some] for some in found]

    def _in_pieces(self, pairs: list[Pair], targets: list[list[int]]) -> list[PairScore]:
        sources = [[*pair.source, EOS] for pair in pairs]
        scores = list[PairScore]()
        scored = score_tokens(self.translator.models, sources, targets, aligned=False)
        for target, one in zip(targets, scored, strict=True):
            penalty = float(length_penalty(len(target) + 1.0, self.translator.decoding.alpha))
            log_prob, pieces = sum(one.log_probs), self.translator.vocabulary.pieces([*target, EOS])
            scores.append(PairScore(log_prob / penalty, log_prob, pieces, one.log_probs))
        return scores


def _too_long(side: str, tokens: list[int], most: int) -> PairScore:
    return _impossible(f"the {side} has {len(tokens)} tokens, and the model takes {most}")


def _impossible(problem: str) -> PairScore:
    return PairScore(-torch.inf, -torch.inf, [], [], problem)
