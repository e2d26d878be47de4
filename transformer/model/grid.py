"""Attention on a CPU over sentences of like length: each padded to the longest, one behind the other in a single row.

A row (1, tokens, d_model) ends with padding of its own, so that its length is one of a few: oneDNN compiles a kernel
for each number of rows. Only attention has to know where a sentence stands. As in torch's own it is float32, whose
products MKL computes: those of bfloat16 are oneDNN's, a kernel of 0.4 MB for each of a thousand shapes. But a row of
scores fills whole vector registers, without which torch's softmax is slow.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

KEY_STEP = 16  # floats in the widest vector register: with other counts torch's softmax takes ten times as long


class Grid(NamedTuple):
    """Where the sentences of a row are: sentence i has the tokens i x length … (i + 1) x length - 1.

    The row may be longer; what follows is padding, and belongs to none.
    """

    sentences: int
    length: int
    positions: Tensor  # int64 (tokens,), each token's place in its sentence
    padding: Tensor  # float32 (sentences, 1, length in whole steps): 0 where a key is a token, -inf where it is not

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Grid":
        """With every tensor changed so."""
        return Grid(self.sentences, self.length, change(self.positions), change(self.padding))


def grid_attention(query: Tensor, key: Tensor, value: Tensor, queries: Grid, keys: Grid, causal: bool) -> Tensor:
    """Attention of each sentence to itself or its source: (1, heads, query tokens, d_v); keys and values likewise.

    With `causal`, where a sentence attends to itself, no mask is needed for the padding at its end.
    """
    steps = keys.padding.size(-1)
    mask = torch.full((queries.length, steps), -torch.inf).triu_(1) if causal else keys.padding
    rows = _sentences(query, queries, queries.length)
    key_rows, value_rows = (_sentences(x, keys, steps) for x in (key, value))
    scores = torch.bmm(rows, key_rows.transpose(1, 2)).unflatten(0, (-1, queries.sentences))
    weights = torch.add(mask, scores, alpha=query.size(-1) ** -0.5).softmax(-1).flatten(0, 1)
    heads = torch.bmm(weights, value_rows).to(query.dtype).unflatten(0, (-1, queries.sentences))
    row = heads.permute(1, 2, 0, 3).flatten(0, 1)
    return F.pad(row, (0, 0, 0, 0, 0, query.size(2) - len(row))).transpose(0, 1)[None]


def grid_of(lengths: Tensor, tokens: int) -> Grid:
    """The grid of sentences of these lengths, int64 (sentences,), in a row of so many tokens."""
    sentences, length = len(lengths), int(lengths.max())
    places = torch.arange(-(-length // KEY_STEP) * KEY_STEP)
    padding = torch.zeros(sentences, 1, len(places)).masked_fill_(places >= lengths[:, None, None], -torch.inf)
    positions = torch.arange(length).repeat(sentences)
    return Grid(sentences, length, F.pad(positions, (0, tokens - len(positions))), padding)


def _sentences(x: Tensor, grid: Grid, length: int) -> Tensor:
    """float32 (heads x sentences, length, size) of a row (1, heads, tokens, size); zeros after the grid's length."""
    inside = x[0, :, : grid.sentences * grid.length].unflatten(1, (grid.sentences, grid.length))
    return F.pad(inside.float(), (0, 0, 0, length - grid.length)).flatten(0, 1)
