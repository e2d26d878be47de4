"""The weights of attention while a network computes, which the fused kernels do not return."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class RecordedAttention(TorchFunctionMode):
    """During the body, keeps the weights of every call of torch's fused attention, in `weights`.

    The calls themselves are unchanged, so the model computes what it always computes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Called by torch in place of each of its functions."""
        if func is F.scaled_dot_product_attention:
            self.weights.append(attention_weights(*args, **(kwargs or {})))
        return func(*args, **(kwargs or {}))


def attention_weights(
    query: Tensor, key: Tensor, _value: Tensor, *, attn_mask: Tensor | None = None, is_causal: bool = False
) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)), (…, queries, keys), of the arguments of F.scaled_dot_product_attention.

    `attn_mask` is boolean, True where a key may be attended; `is_causal` hides every key after its query.
    """
    scores = query.float() @ key.float().transpose(-2, -1) / math.sqrt(query.size(-1))
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    if is_causal:
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(diagonal=1)
        scores = scores.masked_fill(later, -math.inf)
    return scores.softmax(dim=-1)
