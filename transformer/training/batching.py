"""Which sentences make an update, and how an update is cut to fit a device (paper, section 5.1).

An update is declared in target tokens over all devices. Its sentences depend on the seed, the epoch and the
lengths alone; micro-batches only divide it, so that the result does not depend on who shares the work.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformer.data.tokenize.store import TokenSide, TokenSplit
from transformer.data.tokenize.vocabulary import BOS, PAD
from transformer.errors import ParamsError

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Padded int64 ids: source (sentences, source length), target_in and target_out (sentences, target length).

    target_in begins with BOS and lacks the last token, target_out ends with EOS: the decoder sees the first and
    is scored on the second.
    """

    source: Tensor
    target_in: Tensor
    target_out: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`; copies from pinned memory run beside the computation."""
        return Batch(*(ids.to(device, non_blocking=True) for ids in (self.source, self.target_in, self.target_out)))


def usable_sentences(split: TokenSplit, max_positions: int) -> Indices:
    """Indices of the sentences that have a place for each of their tokens.

    Raises:
        ParamsError: none has.
    """
    longest = np.maximum(split.source.lengths, split.target.lengths)
    usable = np.flatnonzero(longest <= max_positions)
    if not len(usable):
        raise ParamsError(
            f"model.max_positions = {max_positions}: every sentence is longer (shortest: {longest.min()})"
        )
    return usable


def plan_epoch(split: TokenSplit, usable: Indices, target_tokens: int, seed: int, epoch: int) -> list[Indices]:
    """The updates of one epoch in their order: each usable sentence exactly once.

    Sentences of equal length stand together in random order; an update is filled to at most `target_tokens`
    target tokens (a longer sentence stands alone), then the updates are shuffled.
    """
    random = np.random.default_rng([seed, epoch])
    shuffled = random.permutation(usable)
    target_lengths = split.target.lengths[shuffled]
    order = np.lexsort((split.source.lengths[shuffled], target_lengths))
    ordered = shuffled[order]
    filled = target_lengths[order].cumsum()
    updates = []
    start = 0
    while start < len(ordered):
        before = filled[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(filled, before + target_tokens, side="right")))
        updates.append(ordered[start:end])
        start = end
    return [updates[position] for position in random.permutation(len(updates))]


def micro_batches(split: TokenSplit, update: Indices, max_tokens: int) -> list[Indices]:
    """Divide an update so that no side of a piece holds more than `max_tokens` ids, padding included.

    Raises:
        ParamsError: one sentence alone is longer.
    """
    widths = np.maximum(_lengths(split.source, update), _lengths(split.target, update))
    if widths.max() > max_tokens:
        raise ParamsError(f"training.micro_batch_tokens = {max_tokens}: a sentence has {widths.max()} tokens")
    pieces = []
    start = 0
    while start < len(update):
        padded = np.maximum.accumulate(widths[start:]) * np.arange(1, len(update) - start + 1)
        end = start + int(np.searchsorted(padded, max_tokens, side="right"))
        pieces.append(update[start:end])
        start = end
    return pieces


def assemble(split: TokenSplit, sentences: Indices) -> Batch:
    """Pad these sentences into a batch."""
    source, target = _padded(split.source, sentences), _padded(split.target, sentences)
    target_in = torch.cat([torch.full((len(sentences), 1), BOS), target[:, :-1]], dim=1)
    # A shorter sentence's EOS has moved into its input, where nothing that counts can see it.
    return Batch(source, target_in, target)


def target_token_count(split: TokenSplit, sentences: Indices) -> int:
    """Target tokens, EOS included, of these sentences."""
    return int(_lengths(split.target, sentences).sum())


def _lengths(side: TokenSide, sentences: Indices) -> Indices:
    return side.offsets[sentences + 1] - side.offsets[sentences]


def _padded(side: TokenSide, sentences: Indices) -> Tensor:
    lengths = _lengths(side, sentences)
    begins = lengths.cumsum() - lengths
    positions = np.repeat(side.offsets[sentences] - begins, lengths) + np.arange(lengths.sum())
    padded = np.full((len(sentences), lengths.max()), PAD, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = side.ids[positions]
    return torch.from_numpy(padded)
