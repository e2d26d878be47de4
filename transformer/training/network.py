"""The loss of one micro-batch, computed plainly or by compiled code."""

import torch
from torch import Tensor

from transformer.model.device import autocast
from transformer.model.transformer import Transformer
from transformer.training.batching import Batch
from transformer.training.objective import compiled_smoothed, plain_smoothed, smoothed_cross_entropy


class Network:
    """The forward pass and the loss, from ids to a scalar.

    Compiled code holds for any number of tokens and sentences: it is made in the first update and never again.
    """

    def __init__(self, model: Transformer, smoothing: float, precision: torch.dtype, *, compiled: bool) -> None:
        self._model, self._smoothing, self._precision = model, smoothing, precision
        self._hidden = torch.compile(model.hidden, fullgraph=True) if compiled else model.hidden
        self._smoothed = compiled_smoothed() if compiled else plain_smoothed

    def loss(self, batch: Batch) -> Tensor:
        """The smoothed cross-entropy summed over the batch's target tokens, float32."""
        weight = self._model.embedding.weight
        _mark_dynamic(batch)
        with autocast(weight.device, self._precision):
            hidden = self._hidden(batch.source, batch.target_in, batch.packing)
        return smoothed_cross_entropy(
            hidden, weight, batch.target_out, self._smoothing, self._precision, self._smoothed
        )


def compilations() -> int:
    """How many graphs torch.compile has made in this process."""
    return int(torch._dynamo.utils.counters["stats"]["unique_graphs"])


def _mark_dynamic(batch: Batch) -> None:
    """Say which sizes of a packed batch change from one to the next."""
    if batch.packing is None:
        return
    for row in batch.source, batch.target_in:
        torch._dynamo.maybe_mark_dynamic(row, 1)
    for spans in batch.packing:
        torch._dynamo.maybe_mark_dynamic(spans.offsets, 0)
        torch._dynamo.maybe_mark_dynamic(spans.positions, 0)
