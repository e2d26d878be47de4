"""Multi-head scaled dot-product attention (paper, section 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.linear import Linear, linear
from transformer.model.packing import Between, packed_attention


class MultiHeadAttention(nn.Module):
    """MultiHead(Q, K, V) = Concat(head_1, …, head_h) W^O, head_i = Attention(Q W_i^Q, K W_i^K, V W_i^V).

    The three input projections are one matrix, so that self-attention is a single product. Heads have
    d_k = d_v = d_model / heads.
    """

    def __init__(self, d_model: int, heads: int) -> None:
        super().__init__()
        self.d_model = d_model
        self.heads = heads
        self.project_in = Linear(d_model, 3 * d_model)
        self.project_out = Linear(d_model, d_model)
        for weight in self.project_in.weight.chunk(3):
            nn.init.xavier_uniform_(weight)  # three square matrices, not one of 3 x 1

    def forward(self, x: Tensor, *, mask: Tensor | Between | None = None, causal: bool = False) -> Tensor:
        """Self-attention over x of shape (batch, length, d_model).

        `mask` is boolean, True where a key may be attended, broadcastable to (batch, heads, length, length); or says
        where the sentences of a packed row (1, tokens, d_model) stand.
        """
        query, key, value = map(self._split, self.project_in(x).chunk(3, dim=-1))
        return self.attend(query, key, value, mask=mask, causal=causal)

    def queries(self, x: Tensor) -> Tensor:
        """Queries (batch, heads, length, d_k) of x."""
        return self._split(linear(x, self.project_in.weight[: self.d_model], self.project_in.bias[: self.d_model]))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values, each (batch, heads, length, d_k), of x: those of a memory are computed once."""
        both = linear(x, self.project_in.weight[self.d_model :], self.project_in.bias[self.d_model :])
        key, value = both.chunk(2, dim=-1)
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
        """softmax(Q K^T / sqrt(d_k)) V, heads joined and projected to (batch, length, d_model)."""
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
