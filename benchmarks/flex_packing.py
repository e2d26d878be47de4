"""Packed attention by flex attention instead of flash attention: `benchmarks.training --flex-attention`.

Flash attention computes a tile of 128 x 128 for each sentence, and its backward pass keeps 128 rows of float32 beside
it: five times what sentences of 24 tokens have (docs/scale.md). Flex attention cuts the row itself into blocks of
128, each of which holds several sentences, and skips the pairs of blocks that share none.
"""

from typing import cast
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

import transformer.model.layers
from transformer.model.packing import Between, Spans
from transformer.training.batching import Batch
from transformer.training.objective import Network

BLOCK = 128  # rows of a block; packed rows are multiples of it


class FlexNetwork(Network):
    """The compiled network, its attention as here."""

    def loss(self, batch: Batch) -> Tensor:
        """See `Network.loss`."""
        with patch.object(transformer.model.layers, "packed_attention", flex_packed_attention):
            return super().loss(batch)


def flex_packed_attention(query: Tensor, key: Tensor, value: Tensor, between: Between, causal: bool) -> Tensor:
    """As `transformer.model.packing.packed_attention`; no gradients on a CPU."""
    return cast(Tensor, flex_attention(query, key, value, block_mask=block_mask(between, causal)))


def block_mask(between: Between, causal: bool) -> BlockMask:
    """Which blocks of keys each block of queries needs, and in them which keys each query sees."""
    queries, keys = between
    of_query, of_key = (_sentences(spans) for spans in between)
    # A block of queries needs the keys from its first sentence's first to its last sentence's last.
    first = keys.offsets[of_query[::BLOCK]] // BLOCK
    last = (keys.offsets[of_query[BLOCK - 1 :: BLOCK] + 1] - 1) // BLOCK
    blocks = keys.positions.size(0) // BLOCK
    indices = (first[:, None] + torch.arange(blocks, device=first.device)).clamp(max=blocks - 1)
    places = queries.positions, keys.positions

    def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        same = of_query[query] == of_key[key]
        return same & (places[0][query] >= places[1][key]) if causal else same

    return BlockMask.from_kv_blocks(
        (last - first + 1)[None, None].int(),
        indices[None, None].int(),
        BLOCK_SIZE=BLOCK,
        mask_mod=seen,
        seq_lengths=(queries.positions.size(0), keys.positions.size(0)),
    )


def _sentences(spans: Spans) -> Tensor:
    """The number of each token's sentence."""
    places = torch.arange(spans.positions.size(0), device=spans.offsets.device, dtype=spans.offsets.dtype)
    # Not of offsets[1:]: torch 2.11's compiled bucketize reads a slice from the beginning of its storage.
    return torch.bucketize(places, spans.offsets, right=True) - 1
