"""`torch.nn.Transformer` with the settings of this project's network: what `benchmarks.training` compares with."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.device import autocast
from transformer.model.layers import Positions
from transformer.params import ModelParams
from transformer.tokens.vocabulary import PAD
from transformer.training.batching import Batch


class TorchTransformer(nn.Module):
    """torch's layers, masks and loss around one shared embedding matrix; used as its documentation shows."""

    def __init__(self, params: ModelParams, vocabulary_size: int, smoothing: float, precision: torch.dtype) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, params.d_model)
        nn.init.normal_(self.embedding.weight, std=params.d_model**-0.5)
        self.positions = Positions(params.positions, params.max_positions, params.d_model)
        self.dropout = nn.Dropout(params.dropout)
        self.layers = nn.Transformer(
            params.d_model,
            params.heads,
            params.encoder_layers,
            params.decoder_layers,
            params.d_ff,
            params.dropout,
            batch_first=True,
            norm_first=params.norm == "pre",
        )
        for layer in [*self.layers.encoder.layers, *self.layers.decoder.layers]:
            layer.dropout.p = 0.0  # inside the feed-forward network, where the paper has none
        for module in self.layers.modules():
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.0  # on attention weights, likewise
        self._scale, self._smoothing, self._precision = math.sqrt(params.d_model), smoothing, precision

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """Logits (batch, target length, vocabulary)."""
        no_source, no_target = source == PAD, target == PAD
        causal = nn.Transformer.generate_square_subsequent_mask(
            target.size(1), device=target.device, dtype=torch.bool
        )
        hidden = self.layers(
            self._embed(source),
            self._embed(target),
            tgt_mask=causal,
            src_key_padding_mask=no_source,
            tgt_key_padding_mask=no_target,
            memory_key_padding_mask=no_source,
            tgt_is_causal=True,
        )
        return F.linear(hidden, self.embedding.weight)

    def loss(self, batch: Batch) -> Tensor:
        """The smoothed cross-entropy summed over the batch's target tokens."""
        with autocast(self.embedding.weight.device, self._precision):
            logits = self(batch.source, batch.target_in)
        return F.cross_entropy(
            logits.flatten(0, 1).float(),
            batch.target_out.flatten(),
            ignore_index=PAD,
            label_smoothing=self._smoothing,
            reduction="sum",
        )

    def _embed(self, tokens: Tensor) -> Tensor:
        return self.dropout(self.positions(self.embedding(tokens) * self._scale))
