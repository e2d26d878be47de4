"""The loss: label-smoothed cross-entropy (paper, section 5.4) fused with the projection to the vocabulary."""

from collections.abc import Callable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.model.device import autocast
from transformer.model.grid import Grid
from transformer.model.layers import rounded_up
from transformer.model.product import times
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import PAD
from transformer.training.batching import Batch

# Logits computed at a time: on a CPU those of a micro-batch, so that the gradient at the weights is one product. On
# a GPU 256 MB of bfloat16 keep it busy.
CHUNK_LOGITS = {"cpu": 1 << 24}
LARGE_CHUNK_LOGITS = 1 << 27
CACHED_LOGITS = 1 << 18  # a CPU takes one pass after the other over 1 MB of float32, which its caches hold
TILE = 128


Smoothed = Callable[[Tensor, Tensor, float], tuple[Tensor, Tensor]]


class ProjectedCrossEntropy(torch.autograd.Function):
    """Sum over tokens of the smoothed cross-entropy of softmax(hidden W^T), in float32.

    With smoothing e the target distribution is (1 - e) on the reference and e / V on each of the V pieces, as in
    torch's `cross_entropy`. The gradient, softmax - target distribution, is formed in the forward pass chunk by
    chunk, so that the logits of all tokens never exist at once.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        target: Tensor,
        smoothing: float,
        dtype: torch.dtype,
        smoothed: Smoothed,
    ) -> Tensor:
        """hidden (tokens, d_model), weight (vocabulary, d_model), target int64 (tokens,); products in `dtype`."""
        matrix = weight.to(dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight: Tensor | None = None
        loss = torch.zeros((), device=hidden.device)
        chunk = _chunk_rows(hidden.device, len(weight))
        for start in range(0, len(hidden), chunk):
            part = slice(start, start + chunk)
            labels = target[part]
            # Few different shapes: see transformer.model.layers.Linear.
            missing = min(chunk, rounded_up(len(labels))) - len(labels)
            rows = hidden[part].to(dtype)
            if missing:
                rows, labels = F.pad(rows, (0, 0, 0, missing)), F.pad(labels, (0, missing), value=PAD)
            chunk_loss, grad = smoothed(times(rows, matrix), labels, smoothing)
            loss += chunk_loss
            if not ctx.needs_input_grad[0]:
                continue
            grad = grad.to(dtype)
            grad_hidden[part] = times(grad, matrix.T)[: len(hidden[part])]
            of_chunk = times(grad.T, rows.T)
            grad_weight = of_chunk if grad_weight is None else grad_weight.float().add_(of_chunk)
        if grad_weight is not None:
            ctx.save_for_backward(grad_hidden, grad_weight)
        return loss

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        """Scale the gradients of the forward pass."""
        (scale,) = grads
        grad_hidden, grad_weight = ctx.saved_tensors
        return grad_hidden * scale, grad_weight * scale, None, None, None, None


def _chunk_rows(device: torch.device, vocabulary_size: int) -> int:
    """Tokens whose logits are computed at a time; whole tiles of them on a GPU."""
    if device.type in CHUNK_LOGITS:
        return max(1, CHUNK_LOGITS[device.type] // vocabulary_size)
    return max(1, LARGE_CHUNK_LOGITS // vocabulary_size // TILE) * TILE


def plain_smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """The summed loss and its gradient at the logits (rows, vocabulary), both zero where the label is padding."""
    if logits.device.type == "cpu" and not torch.compiler.is_compiling():
        return _smoothed_in_cache(logits, labels, smoothing)
    counted = (labels != PAD).float()
    logits = logits.float()
    logits -= logits.amax(-1, keepdim=True)  # so that no exponential overflows
    true, mean = logits.gather(-1, labels[:, None])[:, 0], logits.mean(-1)
    grad = logits.exp_()
    sums = grad.sum(-1)
    loss = ((sums.log() - (1 - smoothing) * true - smoothing * mean) * counted).sum()
    grad.mul_((counted / sums)[:, None]).sub_((counted * smoothing / logits.size(-1))[:, None])
    rewards = counted * (smoothing - 1)
    if torch.compiler.is_compiling():
        # One more term in the single pass over the logits; a scatter would need a second pass.
        pieces = torch.arange(logits.size(-1), device=labels.device)
        return loss, grad + torch.where(labels[:, None] == pieces, rewards[:, None], 0.0)
    rows = torch.arange(len(labels), device=labels.device)
    grad[rows, labels] += rewards  # deterministic on a GPU too, unlike scatter_add_
    return loss, grad


def _smoothed_in_cache(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """`plain_smoothed`, some rows at a time; the gradient takes the place of the logits."""
    loss = torch.zeros(())
    step = max(1, CACHED_LOGITS // logits.size(-1))
    uniform = smoothing / logits.size(-1)
    for start in range(0, len(logits), step):
        part, expected = logits[start : start + step], labels[start : start + step, None]
        exact = part.float()
        grad = exact.softmax(-1)
        log_sums = exact.amax(-1) - grad.amax(-1).log()  # of exponentials: the largest of them never underflows
        rewarded = (1 - smoothing) * exact.gather(-1, expected)[:, 0] + smoothing * exact.mean(-1)
        counted = torch.ne(expected, PAD)
        loss += torch.where(counted[:, 0], log_sums - rewarded, 0.0).sum()
        grad.sub_(uniform)
        grad.scatter_add_(-1, expected, torch.full(expected.shape, smoothing - 1))
        if not counted.all():
            grad.mul_(counted)
        part.copy_(grad)
    return loss, logits


def compiled_smoothed() -> Smoothed:
    """The loss of a chunk as one or two passes over its logits, for any number of rows."""
    compiled = torch.compile(_smoothed_to_dtype, fullgraph=True)

    def smoothed(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
        for rows in logits, labels:
            torch._dynamo.maybe_mark_dynamic(rows, 0)
        return compiled(logits, labels, smoothing)

    return smoothed


def _smoothed_to_dtype(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Tensor]:
    """`plain_smoothed`, with the gradient written in the logits' dtype right away."""
    loss, grad = plain_smoothed(logits, labels, smoothing)
    return loss, grad.to(logits.dtype)


def smoothed_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    target: Tensor,
    smoothing: float,
    dtype: torch.dtype,
    smoothed: Smoothed = plain_smoothed,
) -> Tensor:
    """Sum of the label-smoothed loss over the tokens of a batch, padding left out.

    Args:
        hidden: decoder outputs (batch, length, d_model).
        weight: the shared embedding matrix (vocabulary, d_model).
        target: int64 ids (batch, length), padded.
        smoothing: the paper's epsilon_ls.
        dtype: precision of the matrix products; sums and exponentials are float32.
        smoothed: computes a chunk's loss and gradient, plainly or compiled.
    """
    apply = cast(Callable[..., Tensor], ProjectedCrossEntropy.apply)
    return apply(hidden.flatten(0, 1), weight, target.flatten(), smoothing, dtype, smoothed)


class Network:
    """The forward pass and the loss, from ids to a scalar.

    The compiled code is good for any number of tokens and sentences: it is made in the first update and never again.
    """

    def __init__(
        self,
        model: Transformer,
        smoothing: float,
        precision: torch.dtype,
        *,
        compiled: bool,
        projection: Tensor | None = None,
    ) -> None:
        """`projection` is the matrix in front of the softmax, where all products have weights in `precision`."""
        self._smoothing, self._precision = smoothing, precision
        self._projection = model.embedding.weight if projection is None else projection
        self._cast = precision if projection is None else torch.float32  # what autocast has to do
        self._hidden = torch.compile(model.hidden, fullgraph=True) if compiled else model.hidden
        self._smoothed = compiled_smoothed() if compiled else plain_smoothed

    def loss(self, batch: Batch) -> Tensor:
        """The smoothed cross-entropy summed over the batch's target tokens, float32."""
        weight = self._projection
        _mark_dynamic(batch)
        with autocast(weight.device, self._cast):
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
        if isinstance(spans, Grid):
            return
        torch._dynamo.maybe_mark_dynamic(spans.offsets, 0)
        torch._dynamo.maybe_mark_dynamic(spans.positions, 0)
