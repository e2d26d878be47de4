"""Given translations scored as the search scores its own: for filtering corpora and for audits."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from transformer.data.cleaning import clean_text
from transformer.decoding.scoring import score_tokens
from transformer.decoding.search import length_penalty
from transformer.decoding.translator import Translator, batches_by_length
from transformer.errors import DeviceMemoryError
from transformer.model.device import autocast
from transformer.progress import ignore_progress
from transformer.tokens.vocabulary import EOS


@dataclass(frozen=True)
class PairScore:
    """What a model finds of a pair, or the reason why it can't tell."""

    score: float  # log P(target | source) / length penalty, as a translation's
    log_prob: float
    tokens: list[str]  # of the target, end of sentence included
    token_log_probs: list[float]  # given the source and the tokens before
    problem: str = ""


NOTHING = PairScore(0.0, 0.0, [], [])  # an empty line for an empty line, as the translator does


def score_pairs(
    translator: Translator,
    sources: list[str],
    targets: list[str],
    *,
    on_scored: Callable[[int], None] = ignore_progress,
) -> list[PairScore]:
    """Score each pair, both sides cleaned as training text is; `on_scored` gets the number of pairs of each batch.

    A target is segmented as the vocabulary segments it; the search may have written the same text in other pieces,
    which have another probability. Pairs that the model cannot make, without a source or longer than its positions,
    score minus infinity and say so in `problem`.

    Raises:
        DeviceMemoryError: a batch does not fit the device's memory.
    """
    sides = [translator.vocabulary.encode_batch(list(map(clean_text, side))) for side in (sources, targets)]
    pairs = list(zip(*sides, strict=True))
    return score_token_pairs(translator, pairs, on_scored=on_scored)


def score_token_pairs(
    translator: Translator,
    pairs: list[tuple[list[int], list[int]]],
    *,
    on_scored: Callable[[int], None] = ignore_progress,
) -> list[PairScore]:
    """The same for token ids without end of sentence."""
    most = min(model.params.max_positions for model in translator.models) - 1
    found = [_unscored(source, target, most) for source, target in pairs]
    lengths = [0 if one else max(map(len, pair)) + 1 for one, pair in zip(found, pairs, strict=True)]
    on_scored(lengths.count(0))
    for batch in batches_by_length(lengths, translator.decoding.batch_tokens):
        scored = _scored(translator, [pairs[index] for index in batch])
        for index, one in zip(batch, scored, strict=True):
            found[index] = one
        on_scored(len(batch))
    return [one for one in found if one]


def _unscored(source: list[int], target: list[int], most: int) -> PairScore | None:
    """What is known without the model."""
    if not source:
        return _impossible("the source is empty") if target else NOTHING
    for side, tokens in (("source", source), ("target", target)):
        if len(tokens) > most:
            return _impossible(f"the {side} has {len(tokens)} tokens, and the model takes {most}")
    return None


def _impossible(problem: str) -> PairScore:
    return PairScore(-torch.inf, -torch.inf, [], [], problem)


def _scored(translator: Translator, pairs: list[tuple[list[int], list[int]]]) -> list[PairScore]:
    sources, targets = [[*source, EOS] for source, _ in pairs], [target for _, target in pairs]
    try:
        with torch.inference_mode(), autocast(translator.device, translator.precision):
            found = score_tokens(translator.models, sources, targets, aligned=False)
    except torch.OutOfMemoryError:
        raise DeviceMemoryError(
            f"{len(pairs)} pairs of up to {max(map(len, sources + targets))} tokens do not fit the memory of "
            f"{translator.device}: lower --batch-tokens"
        ) from None
    scores = list[PairScore]()
    for target, one in zip(targets, found, strict=True):
        penalty = float(length_penalty(len(target) + 1.0, translator.decoding.alpha))
        log_prob = sum(one.log_probs)
        pieces = translator.vocabulary.pieces([*target, EOS])
        scores.append(PairScore(log_prob / penalty, log_prob, pieces, one.log_probs))
    return scores
