"""Encoder and decoder layers (paper, section 3.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from transformer.model.attention import MultiHeadAttention
from transformer.model.dropout import Dropout
from transformer.model.feed_forward import FeedForward
from transformer.model.packing import Between
from transformer.model.params import ModelParams


class Residual(nn.Module):
    """LayerNorm(x + Dropout(sublayer(x))), or x + Dropout(sublayer(LayerNorm(x))) with pre-norm."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.d_model)
        self.dropout = Dropout(params.dropout)
        self.pre_norm = params.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Wrap `sublayer` around x of shape (batch, length, d_model)."""
        if self.pre_norm:
            inner: Tensor = x + self.dropout(sublayer(self.norm(x)))
            return inner
        output: Tensor = self.norm(x + self.dropout(sublayer(x)))
        return output


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(params.d_model, params.heads)
        self.feed_forward = FeedForward(params.d_model, params.d_ff)
        self.around_self_attention = Residual(params)
        self.around_feed_forward = Residual(params)

    def forward(self, x: Tensor, source_mask: Tensor | Between) -> Tensor:
        """x: (batch, source length, d_model)."""
        x = self.around_self_attention(x, lambda y: self.self_attention(y, mask=source_mask))
        output: Tensor = self.around_feed_forward(x, self.feed_forward)
        return output


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the memory, then a feed-forward network."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(params.d_model, params.heads)
        self.cross_attention = MultiHeadAttention(params.d_model, params.heads)
        self.feed_forward = FeedForward(params.d_model, params.d_ff)
        self.around_self_attention = Residual(params)
        self.around_cross_attention = Residual(params)
        self.around_feed_forward = Residual(params)

    def forward(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        source_mask: Tensor | Between,
        target_mask: Between | None = None,
    ) -> Tensor:
        """x: (batch, target length, d_model); memory: the encoder output's keys and values for this layer.

        Padding stands at the end of a target, where the causal mask already hides it from every token; only a packed
        row needs a mask of its own.
        """
        return self._sublayers(
            x, memory, source_mask, lambda y: self.self_attention(y, mask=target_mask, causal=True)
        )

    def step(
        self, x: Tensor, past: tuple[Tensor, Tensor], memory: tuple[Tensor, Tensor], source_mask: Tensor
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """One position x (rows, 1, d_model) after `past` keys and values; returns its output and the longer past."""
        grown = past

        def attend(y: Tensor) -> Tensor:
            nonlocal grown
            key, value = self.self_attention.keys_values(y)
            grown = (torch.cat([past[0], key], dim=2), torch.cat([past[1], value], dim=2))
            return self.self_attention.attend(self.self_attention.queries(y), *grown)

        return self._sublayers(x, memory, source_mask, attend), grown

    def _sublayers(
        self,
        x: Tensor,
        memory: tuple[Tensor, Tensor],
        source_mask: Tensor | Between,
        attend: Callable[[Tensor], Tensor],
    ) -> Tensor:
        def attend_memory(y: Tensor) -> Tensor:
            return self.cross_attention.attend(self.cross_attention.queries(y), *memory, mask=source_mask)

        x = self.around_self_attention(x, attend)
        x = self.around_cross_attention(x, attend_memory)
        output: Tensor = self.around_feed_forward(x, self.feed_forward)
        return output
