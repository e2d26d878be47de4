"""Attention on a CPU over sentences of like length: each padded to the longest, one behind the other in a single row.

A row (1, tokens, d_model) ends with padding of its own, so that its length is one of a few: oneDNN compiles a kernel
for each number of rows. Only attention has to know where a sentence stands. Its products are small and many, which
torch's own attention computes in float32, by a softmax that is slow for short rows; here the products have the
precision of the projections, and a row of scores fills whole vector registers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, cast

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


class _Attention(torch.autograd.Function):
    """softmax(Q K^T / sqrt(d_k) + mask) V and its gradient; scores and their softmax in float32."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, queries: Grid, keys: Grid, mask: Tensor
    ) -> Tensor:
        """Heads as `grid_attention` takes and returns them."""
        scale = query.size(-1) ** -0.5
        rows, key_rows = (_sentences(x, grid) for x, grid in ((query, queries), (key, keys)))
        value_rows = _sentences(value, keys)
        missing = mask.size(-1) - keys.length
        if missing:
            key_rows, value_rows = (F.pad(x, (0, 0, 0, missing)) for x in (key_rows, value_rows))
        scores = torch.bmm(rows, key_rows.transpose(1, 2)).unflatten(0, (-1, queries.sentences))
        weights = torch.softmax(torch.add(mask, scores, alpha=scale), -1).flatten(0, 1)
        heads = torch.bmm(weights.to(rows.dtype), value_rows)
        ctx.save_for_backward(rows, key_rows, value_rows, weights)
        ctx.grids, ctx.scale, ctx.tokens = (queries, keys), scale, (query.size(2), key.size(2))
        return _row(heads, queries, query.size(2))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients at queries, keys and values, laid out as these are."""
        rows, key_rows, value_rows, weights = ctx.saved_tensors
        queries, keys = ctx.grids
        grad = _sentences(grads[0], queries)
        grad_weights = torch.bmm(grad, value_rows.transpose(1, 2)).float()
        grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, torch.float32)
        grad_scores = grad_scores.mul_(ctx.scale).to(rows.dtype)
        of_queries = torch.bmm(grad_scores, key_rows)
        of_keys = torch.bmm(grad_scores.transpose(1, 2), rows)
        of_values = torch.bmm(weights.to(rows.dtype).transpose(1, 2), grad)
        query_tokens, key_tokens = ctx.tokens
        return (
            _row(of_queries, queries, query_tokens),
            *(_row(of[:, : keys.length], keys, key_tokens) for of in (of_keys, of_values)),
            None,
            None,
            None,
        )


def grid_attention(query: Tensor, key: Tensor, value: Tensor, queries: Grid, keys: Grid, causal: bool) -> Tensor:
    """Attention of each sentence to itself or its source: (1, heads, query tokens, d_v); keys and values likewise.

    With `causal`, where a sentence attends to itself, no mask is needed for the padding at its end.
    """
    mask = _causal_mask(queries.length, keys.padding.size(-1)) if causal else keys.padding
    return cast(Tensor, _Attention.apply(query, key, value, queries, keys, mask))  # type: ignore[no-untyped-call]


def grid_of(lengths: Tensor, tokens: int) -> Grid:
    """The grid of sentences of these lengths, int64 (sentences,), in a row of so many tokens."""
    sentences, length = len(lengths), int(lengths.max())
    places = torch.arange(-(-length // KEY_STEP) * KEY_STEP)
    padding = torch.zeros(sentences, 1, len(places)).masked_fill_(places >= lengths[:, None, None], -torch.inf)
    positions = torch.arange(length).repeat(sentences)
    return Grid(sentences, length, F.pad(positions, (0, tokens - len(positions))), padding)


def _causal_mask(queries: int, keys: int) -> Tensor:
    return torch.full((queries, keys), -torch.inf).triu_(1)


def _sentences(x: Tensor, grid: Grid) -> Tensor:
    """(heads x sentences, length, size), contiguous, of a row (1, heads, tokens, size)."""
    inside = x[0, :, : grid.sentences * grid.length]
    return inside.reshape(x.size(1) * grid.sentences, grid.length, x.size(3))


def _row(x: Tensor, grid: Grid, tokens: int) -> Tensor:
    """A row (1, heads, tokens, size) whose tokens stand together in memory, of (heads x sentences, length, size)."""
    row = x.new_empty(tokens, len(x) // grid.sentences, x.size(-1))
    inside = grid.sentences * grid.length
    row[:inside].unflatten(0, (grid.sentences, grid.length)).copy_(
        x.unflatten(0, (-1, grid.sentences)).permute(1, 2, 0, 3)
    )
    row[inside:] = 0
    return row.transpose(0, 1)[None]
