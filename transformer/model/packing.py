"""Attention over sentences concatenated into a single row, without padding between them.

A batch of any lengths is then one row, (1, tokens, d_model), in which no product is wasted, and flash attention
keeps the sentences apart by their offsets: there is no mask, and the number of tokens is the only size that changes.
"""

from collections.abc import Callable
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.grid import Grid, grid_attention
from transformer.params import ModelParams

FLASH_HEAD_SIZE = 256  # the widest head of the flash kernels; sizes are multiples of 8
FLASH_CAPABILITY = (8, 0)


class Spans(NamedTuple):
    """Where the sentences of a row are; every token belongs to one.

    Sentence i has the tokens offsets[i] … offsets[i + 1] - 1.
    """

    offsets: Tensor  # int32 (sentences + 1,)
    positions: Tensor  # int64 (tokens,), each token's place in its sentence
    longest: int  # no sentence has more tokens

    def mapped(self, change: Callable[[Tensor], Tensor]) -> "Spans":
        """With every tensor changed so."""
        return Spans(change(self.offsets), change(self.positions), self.longest)


class Packing(NamedTuple):
    """The spans of a packed batch; sentence i of the source belongs to sentence i of the target."""

    source: Spans | Grid
    target: Spans | Grid


class Between(NamedTuple):
    """Attention from each sentence of one row to the sentence with its number in another, or in the same."""

    queries: Spans | Grid
    keys: Spans | Grid


def has_flash_kernel(device: torch.device, precision: torch.dtype, model: ModelParams) -> bool:
    """Whether `packed_attention` runs without a mask there."""
    return (
        device.type == "cuda"
        and precision == torch.bfloat16
        and model.d_k == model.d_v <= FLASH_HEAD_SIZE
        and model.d_k % 8 == 0
        and torch.cuda.get_device_capability(device) >= FLASH_CAPABILITY
    )


def packed_attention(query: Tensor, key: Tensor, value: Tensor, between: Between, causal: bool) -> Tensor:
    """Attention of each sentence to itself or its source: (1, heads, query tokens, d_k), as the query is.

    Keys and values are (1, heads, key tokens, d_k). On a GPU this is flash attention in bfloat16; on a CPU one
    product with a mask of query tokens x key tokens, which is for small batches only, unless the row is a grid.
    """
    queries, keys = between
    if isinstance(queries, Grid) or isinstance(keys, Grid):
        assert isinstance(queries, Grid)
        assert isinstance(keys, Grid)
        return grid_attention(query, key, value, queries, keys, causal)
    if query.device.type == "cpu":
        return F.scaled_dot_product_attention(query, key, value, attn_mask=_mask(queries, keys, causal))
    from torch.nn.attention.varlen import varlen_attn  # here, because a CPU never needs it

    query, key, value = (x[0].transpose(0, 1) for x in (query, key, value))
    heads = varlen_attn(
        query,
        key,
        value,
        queries.offsets,
        keys.offsets,
        queries.longest,
        keys.longest,
        window_size=(-1, 0) if causal else (-1, -1),
    )
    return cast(Tensor, heads).transpose(0, 1)[None]


def _mask(queries: Spans, keys: Spans, causal: bool) -> Tensor:
    """True where the query's sentence is the key's, and with `causal` the key is no later: (queries, keys)."""
    query, key = (torch.bucketize(_places(spans), spans.offsets[1:], right=True) for spans in (queries, keys))
    same = query[:, None] == key
    if not causal:
        return same
    return same & (queries.positions[:, None] >= keys.positions)


def _places(spans: Spans) -> Tensor:
    return torch.arange(spans.positions.size(0), device=spans.positions.device)
