"""The encoder-decoder (paper, Figure 1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from transformer.model.layers import DecoderLayer, Dropout, EncoderLayer, Positions, SharedEmbedding, padding_mask
from transformer.model.packing import Between, Packing
from transformer.params import ModelParams
from transformer.tokens.vocabulary import PAD


@dataclass
class DecoderState:
    """What the decoder remembers between two positions; every tensor's first dimension is the row.

    `past` and `memory` hold, for each layer, keys and values of shape (rows, heads, length, d_k).
    """

    position: int
    past: list[tuple[Tensor, Tensor]]
    memory: list[tuple[Tensor, Tensor]]
    source_mask: Tensor  # (rows, 1, 1, source length)

    def select(self, rows: Tensor) -> DecoderState:
        """The state of the rows with these indices: reordered, repeated or dropped."""
        return DecoderState(
            self.position,
            [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.past],
            [(key.index_select(0, rows), value.index_select(0, rows)) for key, value in self.memory],
            self.source_mask.index_select(0, rows),
        )


class Transformer(nn.Module):
    """Stacks of encoder and decoder layers around one shared embedding matrix."""

    def __init__(self, params: ModelParams, vocabulary_size: int) -> None:
        super().__init__()
        self.params = params
        self.embedding = SharedEmbedding(vocabulary_size, params.d_model)
        self.positions = Positions(params.positions, params.max_positions, params.d_model)
        self.dropout = Dropout(params.dropout)
        self.encoder = nn.ModuleList(EncoderLayer(params) for _ in range(params.encoder_layers))
        self.decoder = nn.ModuleList(DecoderLayer(params) for _ in range(params.decoder_layers))
        # Pre-norm leaves the last residual sum unnormalised; with post-norm there is nothing left to do.
        pre_norm = params.norm == "pre"
        self.encoder_norm = nn.LayerNorm(params.d_model) if pre_norm else nn.Identity()
        self.decoder_norm = nn.LayerNorm(params.d_model) if pre_norm else nn.Identity()

    @property
    def decoder_layers(self) -> list[DecoderLayer]:
        """The decoder's layers, first to last."""
        return cast(list[DecoderLayer], list(self.decoder))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.embedding.weight.device

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (batch, target length, vocabulary) of the token after each position.

        Args:
            source: int64 ids (batch, source length), each ending with end-of-sentence, padded at the end.
            target: int64 ids (batch, target length), each beginning with begin-of-sentence, padded at the end.
        """
        return self.embedding.logits(self.hidden(source, target))

    def hidden(self, source: Tensor, target: Tensor, packing: Packing | None = None) -> Tensor:
        """Decoder outputs (batch, target length, d_model) before the projection to the vocabulary.

        With `packing`, source and target are single rows (1, tokens) of many sentences.
        """
        if packing is None:
            source_mask = padding_mask(source, PAD)
            return self._decode(target, self.encode(source, source_mask), source_mask)
        of_source, of_target = packing
        memory = self.encode(source, Between(of_source, of_source), of_source.positions)
        to_target, to_source = Between(of_target, of_target), Between(of_target, of_source)
        return self._decode(target, memory, to_source, to_target, of_target.positions)

    def encode(self, source: Tensor, source_mask: Tensor | Between, positions: int | Tensor = 0) -> Tensor:
        """Encoder output (batch, source length, d_model)."""
        x = self._embed(source, positions)
        for layer in self.encoder:
            x = layer(x, source_mask)
        output: Tensor = self.encoder_norm(x)
        return output

    def start(self, source: Tensor, beam: int = 1) -> DecoderState:
        """Encode `source` (batch, source length) and return the state before the first target position.

        The state has batch x beam rows: rows b x beam … (b + 1) x beam - 1 belong to sentence b.
        """
        source_mask = padding_mask(source, PAD)
        memory = self.encode(source, source_mask)
        both = (layer.cross_attention.keys_values(memory) for layer in self.decoder_layers)
        keys_values = [(key.contiguous(), value.contiguous()) for key, value in both]  # selecting rows is faster
        state = DecoderState(
            0, [(key[:, :, :0], value[:, :, :0]) for key, value in keys_values], keys_values, source_mask
        )
        if beam == 1:
            return state
        return state.select(torch.arange(len(source), device=source.device).repeat_interleave(beam))

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """Feed one token id a row, int64 (rows,); returns float32 logits (rows, vocabulary), extends `state`."""
        x = self._embed(tokens[:, None], state.position)
        for index, layer in enumerate(self.decoder_layers):
            x, state.past[index] = layer.step(x, state.past[index], state.memory[index], state.source_mask)
        state.position += 1
        hidden = self.decoder_norm(x)[:, 0]
        with torch.autocast(hidden.device.type, enabled=False):  # hypotheses may differ by less than bfloat16 shows
            return self.embedding.logits(hidden.float())

    def _decode(
        self,
        target: Tensor,
        memory: Tensor,
        source_mask: Tensor | Between,
        target_mask: Between | None = None,
        positions: int | Tensor = 0,
    ) -> Tensor:
        x = self._embed(target, positions)
        for layer in self.decoder_layers:
            x = layer(x, layer.cross_attention.keys_values(memory), source_mask, target_mask)
        output: Tensor = self.decoder_norm(x)
        return output

    def _embed(self, tokens: Tensor, positions: int | Tensor = 0) -> Tensor:
        output: Tensor = self.dropout(self.positions(self.embedding(tokens), positions))
        return output
