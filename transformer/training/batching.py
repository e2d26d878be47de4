"""Which sentences make an update, and how an update is cut to fit a device (paper, section 5.1).

The size of an update is given in target tokens over all devices. Its sentences depend only on the seed, the epoch
and the lengths. Micro-batches merely divide it: only dropout depends on how many processes share the work.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transformer.errors import ParamsError
from transformer.model.grid import grid_of
from transformer.model.layers import rounded_up
from transformer.model.packing import Packing, Spans
from transformer.params import TrainingParams
from transformer.tokens.ranges import offsets, ranges
from transformer.tokens.store import TokenSide, TokenSplit
from transformer.tokens.vocabulary import BOS, PAD

Indices = NDArray[np.int64]
Update = list[Indices]  # groups of sentences, each of like length

PACKED_STEP = 128  # a packed row's tokens are a multiple of this, for few shapes and whole tiles


@dataclass(frozen=True)
class Batch:
    """Padded int64 ids: source (sentences, source length), target_in and target_out (sentences, target length).

    target_in begins with BOS and lacks the last token, target_out ends with EOS: the decoder sees the first and
    is scored on the second. With `packing`, each is one row (1, tokens) of all sentences.
    """

    source: Tensor
    target_in: Tensor
    target_out: Tensor
    packing: Packing | None = None

    def to(self, device: torch.device) -> "Batch":
        """The batch on `device`; copies from pinned memory overlap with computation."""
        return self._mapped(lambda ids: ids.to(device, non_blocking=True))

    def pinned(self) -> "Batch":
        """The batch in pinned memory, from which a GPU copies on its own."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        packing = self.packing and Packing(*(spans.mapped(change) for spans in self.packing))
        return Batch(change(self.source), change(self.target_in), change(self.target_out), packing)


def usable_sentences(split: TokenSplit, max_positions: int) -> Indices:
    """Indices of the sentences of which no side has more than `max_positions` tokens.

    Raises:
        ParamsError: there is none.
    """
    longest = np.maximum(split.source.lengths, split.target.lengths)
    usable = np.flatnonzero(longest <= max_positions)
    if not len(usable):
        raise ParamsError(
            f"model.max_positions = {max_positions}: every sentence is longer (shortest: {longest.min()})"
        )
    return usable


def check_longest(split: TokenSplit, usable: Indices, name: str, room: int) -> None:
    """Find a sentence that is longer than any micro-batch before the first update, not in the middle of an epoch.

    Raises:
        ParamsError: a side of the longest of these sentences has more than `room` tokens.
    """
    lengths = np.maximum(_lengths(split.source, usable), _lengths(split.target, usable))
    longest = int(lengths.argmax())
    if lengths[longest] > room:
        raise ParamsError(
            f"training.micro_batch_tokens leaves room for {room} tokens of a sentence, but row {usable[longest]} of "
            f"data/corpus/{name}.parquet has {lengths[longest]}: raise it, or lower model.max_positions to leave "
            "such sentences out"
        )


def plan_epoch(split: TokenSplit, usable: Indices, training: TrainingParams, epoch: int) -> list[Update]:
    """The updates of one epoch in their order: each usable sentence exactly once.

    Sentences of similar length form a group, in random order among those of equal length; the groups are shuffled,
    and `length_groups` of them make an update of at most `batch_target_tokens` target tokens. (A sentence longer than
    a group is alone in it.) The paper's update was mixed likewise: each of eight devices had a batch of one length.
    """
    random = np.random.default_rng([training.seed, epoch])
    shuffled = random.permutation(usable)
    target_lengths = split.target.lengths[shuffled]
    order = np.lexsort((split.source.lengths[shuffled], target_lengths))
    ordered = shuffled[order]
    filled = target_lengths[order].cumsum()
    group_tokens = training.batch_target_tokens // training.length_groups
    groups = []
    start = 0
    while start < len(ordered):
        before = filled[start - 1] if start else 0
        end = max(start + 1, int(np.searchsorted(filled, before + group_tokens, side="right")))
        groups.append(ordered[start:end])
        start = end
    mixed = [groups[position] for position in random.permutation(len(groups))]
    return [mixed[first : first + training.length_groups] for first in range(0, len(mixed), training.length_groups)]


def micro_batches(split: TokenSplit, group: Indices, max_tokens: int) -> list[Indices]:
    """Divide a group so that no side of a piece holds more than `max_tokens` ids, padding included.

    Raises:
        ParamsError: one sentence alone is longer.
    """
    widths = np.maximum(_lengths(split.source, group), _lengths(split.target, group))
    if widths.max() > max_tokens:
        raise ParamsError(f"training.micro_batch_tokens = {max_tokens}: a sentence has {widths.max()} tokens")
    pieces = []
    start = 0
    while start < len(group):
        padded = np.maximum.accumulate(widths[start:]) * np.arange(1, len(group) - start + 1)
        end = start + int(np.searchsorted(padded, max_tokens, side="right"))
        pieces.append(group[start:end])
        start = end
    return pieces


def packed_batches(split: TokenSplit, update: Update, max_tokens: int, ranks: int) -> list[Indices]:
    """Divide an update into as few pieces of similar size as fit, their number a multiple of `ranks`.

    A piece fits when neither side holds more than `max_tokens` ids once `pack` has rounded them up. Where a piece
    holds only a sentence or two, their number may not be a multiple.

    Raises:
        ParamsError: one sentence alone is longer.
    """
    sentences = np.concatenate(update)
    lengths = np.stack([_lengths(side, sentences) for side in (split.source, split.target)])
    room = max_tokens - 2 * PACKED_STEP  # `pack` adds at most this to a side
    if lengths.max() > room:
        raise ParamsError(
            f"training.micro_batch_tokens = {max_tokens}: a sentence has {lengths.max()} tokens, "
            f"and packing takes up to {2 * PACKED_STEP}"
        )
    sizes = lengths.sum(axis=0)
    middles = sizes.cumsum() - sizes / 2
    least = -(-int(lengths.sum(axis=1).max()) // room)
    for count in itertools.count(-(-least // ranks) * ranks, ranks):
        cuts = np.searchsorted(middles, sizes.sum() * np.arange(1, count) / count)
        pieces = [piece for piece in np.split(np.arange(len(sentences)), cuts) if len(piece)]
        if max(lengths[:, piece].sum(axis=1).max() for piece in pieces) <= room:
            break
    return [sentences[piece] for piece in pieces]


def pack(split: TokenSplit, sentences: Indices, longest: int) -> Batch:
    """These sentences, none of more than `longest` tokens, concatenated in a row.

    Each row ends with padding as a sentence of its own, so that its length is a multiple of `PACKED_STEP`. The two
    rows never have the same length, or torch.compile would assume from then on that they always have.
    """
    (source, sources), (target, targets) = (_flat(side, sentences) for side in (split.source, split.target))
    source_width, target_width = (-(-(len(ids) + 1) // PACKED_STEP) * PACKED_STEP for ids in (source, target))
    if source_width == target_width:
        source_width += PACKED_STEP
    longest = max(longest, 2 * PACKED_STEP)
    of_targets = _spans(targets, target_width, longest)
    target_out = _row(target, target_width)
    target_in = target_out.roll(1, dims=1)
    target_in[0, of_targets.offsets[:-1].long()] = BOS
    packing = Packing(_spans(sources, source_width, longest), of_targets)
    return Batch(_row(source, source_width), target_in, target_out, packing)


def assemble(split: TokenSplit, sentences: Indices) -> Batch:
    """Pad these sentences into a batch."""
    source, target = _padded(split.source, sentences), _padded(split.target, sentences)
    target_in = torch.cat([torch.full((len(sentences), 1), BOS), target[:, :-1]], dim=1)
    # The input of a shorter sentence includes its EOS, but no position that is scored attends to it.
    return Batch(source, target_in, target)


def lay_out(split: TokenSplit, sentences: Indices) -> Batch:
    """Pad these sentences of like length, and put them one behind the other in a row, as a CPU computes them."""
    padded = assemble(split, sentences)
    source, target_in, target_out = (
        _filled(ids.flatten().numpy()) for ids in (padded.source, padded.target_in, padded.target_out)
    )
    grids = (
        grid_of(torch.from_numpy(_lengths(side, sentences)), row.size(1))
        for side, row in ((split.source, source), (split.target, target_out))
    )
    return Batch(source, target_in, target_out, Packing(*grids))


def target_token_count(split: TokenSplit, sentences: Indices) -> int:
    """Target tokens, EOS included, of these sentences."""
    return int(_lengths(split.target, sentences).sum())


def _lengths(side: TokenSide, sentences: Indices) -> Indices:
    return side.offsets[sentences + 1] - side.offsets[sentences]


def _flat(side: TokenSide, sentences: Indices) -> tuple[Indices, Indices]:
    """The ids of these sentences concatenated, and their lengths."""
    lengths = _lengths(side, sentences)
    return side.ids[ranges(side.offsets[sentences], lengths)].astype(np.int64), lengths


def _padded(side: TokenSide, sentences: Indices) -> Tensor:
    ids, lengths = _flat(side, sentences)
    padded = np.full((len(sentences), lengths.max()), PAD, dtype=np.int64)
    padded[np.arange(lengths.max()) < lengths[:, None]] = ids
    return torch.from_numpy(padded)


def _row(ids: Indices, width: int) -> Tensor:
    return torch.from_numpy(np.pad(ids, (0, width - len(ids)), constant_values=PAD))[None]


def _filled(ids: Indices) -> Tensor:
    """These ids in a row of one of a few lengths."""
    return _row(ids, rounded_up(len(ids)))


def _spans(lengths: Indices, width: int, longest: int) -> Spans:
    """The spans of sentences of these lengths and of the padding after them, up to `width`."""
    edges = np.append(offsets(lengths), width)
    positions = np.zeros(width, np.int64)  # padding keeps position 0, which every table has
    positions[: edges[-2]] = ranges(np.zeros_like(lengths), lengths)
    return Spans(torch.from_numpy(edges.astype(np.int32)), torch.from_numpy(positions), longest)
