"""What the encoder and the decoder are made of (paper, sections 3.1 to 3.5), from the products up to the layers.

Embeddings are section 3.4, positional encodings 3.5, attention 3.2, the feed-forward network 3.3, the layers 3.1.
"""

import math
import threading
from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.packing import Between, packed_attention
from transformer.model.product import TrainedProduct, onednn_multiplies
from transformer.params import ModelParams

DROPOUT_LEVELS = 1 << 16  # a probability is kept to 16 bits

_random = threading.local()  # micro-batches that are computed side by side draw from generators of their own


class Linear(nn.Linear):
    """y = x W^T + b, with Xavier-uniform weights and zero biases.

    On the CPU the rows are padded to one of a few counts: oneDNN compiles a kernel for each new count of rows, which
    costs a quarter of the first epoch, and never frees it, half a megabyte each.
    """

    def reset_parameters(self) -> None:
        """Initialise as `torch.nn.MultiheadAttention` does."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for x of shape (…, in)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.size(-1))
    if weight.dtype == torch.bfloat16:
        rows = rows.to(torch.bfloat16)
    count = len(rows)
    if missing := rounded_up(count) - count:
        rows = F.pad(rows, (0, 0, 0, missing))
    if torch.is_grad_enabled() and onednn_multiplies(rows, weight):
        product = cast(Tensor, TrainedProduct.apply(rows, weight, bias))  # type: ignore[no-untyped-call]
    else:
        product = F.linear(rows, weight, bias)
    return product[:count].view(*x.shape[:-1], -1)


def rounded_up(count: int) -> int:
    """The next of eight sizes an octave, so that at most an eighth is padding: … 1024, 1152, … 2048, 2304, …"""
    step = max(8, 1 << max(0, (count - 1).bit_length() - 4))
    return -(-count // step) * step


def seed_dropout(seed: int, device: torch.device) -> None:
    """Seed all dropout that this thread computes on `device` from now on."""
    if device.type == "cpu":
        _random.bits = np.random.SFC64(seed)
        torch.default_generator.manual_seed(seed)  # compiled code draws from this one
    else:
        torch.manual_seed(seed)


class Dropout(nn.Module):
    """Zero each number with probability p and scale the others by 1 / (1 - p), in training only (section 5.4).

    On a CPU torch draws one Bernoulli number after another, which takes a tenth of an update; here four 16-bit
    numbers come from each draw of 64 bits.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape; what is dropped follows from `seed_dropout`, or else torch's default generator."""
        if not self._draws_itself(x):
            return F.dropout(x, self.p, self.training)
        return x * self._kept(x).mul_(1 / (1 - self.p))

    def added(self, x: Tensor, y: Tensor) -> Tensor:
        """x + Dropout(y), for x and y of one shape."""
        if not self._draws_itself(y):
            return x + F.dropout(y, self.p, self.training)
        return torch.add(x, y * self._kept(y), alpha=1 / (1 - self.p))

    def _draws_itself(self, x: Tensor) -> bool:
        return self.training and self.p > 0 and x.device.type == "cpu" and not torch.compiler.is_compiling()

    def _kept(self, x: Tensor) -> Tensor:
        """1 where a number of x is kept and 0 where it is dropped, in the dtype of x."""
        bits = getattr(_random, "bits", None) or np.random.SFC64(int(torch.randint(1 << 62, ())))
        draws = torch.from_numpy(bits.random_raw(-(-x.numel() // 4)).view(np.int16)[: x.numel()]).view(x.shape)
        least = round(self.p * DROPOUT_LEVELS) - DROPOUT_LEVELS // 2
        return torch.ge(draws, least, out=torch.empty(x.shape, dtype=x.dtype))


class SharedEmbedding(nn.Module):
    """One matrix for source embeddings, target embeddings and the pre-softmax projection (section 3.4)."""

    def __init__(self, vocabulary_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, d_model))
        # Scaled by sqrt(d_model) on the way in, so that both uses start with unit variance.
        nn.init.normal_(self.weight, std=d_model**-0.5)
        self.scale = math.sqrt(d_model)
        self.sparse_gradient = False  # of the vectors that are looked up, which few of all pieces have

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors of shape (…, d_model) for token ids of shape (…), multiplied by sqrt(d_model)."""
        return F.embedding(tokens, self.weight, sparse=self.sparse_gradient) * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary, (…, vocabulary), for decoder outputs (…, d_model)."""
        return linear(hidden, self.weight)


def sinusoids(length: int, d_model: int) -> Tensor:
    """The table of section 3.5, float32 of shape (length, d_model).

    PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same angle.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(length, d_model).float()


class Positions(nn.Module):
    """Adds a vector to each position (section 3.5): a constant sinusoid, or a learned row (Table 3, row E)."""

    table: Tensor

    def __init__(self, kind: str, length: int, d_model: int) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(torch.empty(length, d_model))
            nn.init.normal_(self.table, std=d_model**-0.5)
        else:
            self.register_buffer("table", sinusoids(length, d_model), persistent=False)

    def forward(self, x: Tensor, positions: int | Tensor = 0) -> Tensor:
        """Add to x (batch, length, d_model) the given positions (length,), or those from a first one on."""
        if isinstance(positions, int):
            return x + self.table[positions : positions + x.size(1)]
        return x + self.table[positions]


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    Section 3.2. The three input projections are one matrix, so that self-attention is a single product. Heads have
    d_v = d_model / heads, and d_k = `key_size`, by default the same.
    """

    def __init__(self, d_model: int, heads: int, key_size: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        keys = heads * (key_size or d_model // heads)
        self.widths = [keys, keys, d_model]  # of queries, keys and values, all heads together
        self.project_in = Linear(d_model, sum(self.widths))
        self.project_out = Linear(d_model, d_model)
        for weight in self.project_in.weight.split(self.widths):
            nn.init.xavier_uniform_(weight)  # each of the three on its own, not as one of three times the height

    def forward(self, x: Tensor, *, mask: Tensor | Between | None = None, causal: bool = False) -> Tensor:
        """Self-attention over x of shape (batch, length, d_model).

        `mask` is boolean, True where a key may be attended, broadcastable to (batch, heads, length, length); or says
        where the sentences of a packed row (1, tokens, d_model) stand.
        """
        query, key, value = map(self._split, self.project_in(x).split(self.widths, dim=-1))
        return self.attend(query, key, value, mask=mask, causal=causal)

    def queries(self, x: Tensor) -> Tensor:
        """Queries (batch, heads, length, d_k) of x."""
        width = self.widths[0]
        return self._split(linear(x, self.project_in.weight[:width], self.project_in.bias[:width]))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (batch, heads, length, d_k), of x: of the encoder's output they are computed once."""
        width = self.widths[0]
        both = linear(x, self.project_in.weight[width:], self.project_in.bias[width:])
        key, value = both.split(self.widths[1:], dim=-1)
        return self._split(key), self._split(value)

    def attend(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        mask: Tensor | Between | None = None,
        causal: bool = False,
    ) -> Tensor:
        """softmax(Q K^T / sqrt(d_k)) V (section 3.2.1), heads joined and projected to (batch, length, d_model)."""
        if isinstance(mask, Between):
            heads = packed_attention(query, key, value, mask, causal)
        else:
            heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=causal)
        output: Tensor = self.project_out(heads.transpose(1, 2).flatten(2))
        return output

    def _split(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        return x.view(batch, length, self.heads, -1).transpose(1, 2)


def padding_mask(tokens: Tensor, padding: int) -> Tensor:
    """True where a key is a token, shape (batch, 1, 1, length), for ids of shape (batch, length)."""
    return torch.ne(tokens, padding)[:, None, None, :]


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2, at each position (section 3.3)."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inner = Linear(d_model, d_ff)
        self.outer = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, d_model) to (…, d_model)."""
        output: Tensor = self.outer(F.relu(self.inner(x)))
        return output


class Residual(nn.Module):
    """LayerNorm(x + Dropout(sublayer(x))) (section 3.1), or x + Dropout(sublayer(LayerNorm(x))) with pre-norm."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(params.d_model)
        self.dropout = Dropout(params.dropout)
        self.pre_norm = params.norm == "pre"

    def forward(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Wrap `sublayer` around x of shape (batch, length, d_model)."""
        if self.pre_norm:
            return self.dropout.added(x, sublayer(self.norm(x)))
        output: Tensor = self.norm(self.dropout.added(x, sublayer(x)))
        return output


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network (section 3.1)."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(params.d_model, params.heads, params.key_size)
        self.feed_forward = FeedForward(params.d_model, params.d_ff)
        self.around_self_attention = Residual(params)
        self.around_feed_forward = Residual(params)

    def forward(self, x: Tensor, source_mask: Tensor | Between) -> Tensor:
        """x: (batch, source length, d_model)."""
        x = self.around_self_attention(x, lambda y: self.self_attention(y, mask=source_mask))
        output: Tensor = self.around_feed_forward(x, self.feed_forward)
        return output


class DecoderLayer(nn.Module):
    """Masked self-attention, attention over the memory, then a feed-forward network (section 3.1)."""

    def __init__(self, params: ModelParams) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(params.d_model, params.heads, params.key_size)
        self.cross_attention = MultiHeadAttention(params.d_model, params.heads, params.key_size)
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
