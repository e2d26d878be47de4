"""Attention weights of a sentence pair (paper, appendix), which the fused kernels do not return."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from transformer.data.cleaning import clean_text
from transformer.errors import DataError
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, Vocabulary

MAX_PIECES = 80  # of a side; with more the labels would be illegible


@dataclass(frozen=True)
class AttentionMaps:
    """What each head of each layer attends to.

    Weights are float32 of shape (layers, heads, queries, keys), and the keys of a query sum to 1. A
    decoder's query is named by the piece it is about to write, its keys are the pieces already read.
    """

    source: list[str]  # pieces with the end of the sentence: queries and keys of `encoder`, keys of `cross`
    written: list[str]  # pieces of the target with the end of the sentence: queries of `decoder` and `cross`
    read: list[str]  # the begin of the sentence and pieces of the target: keys of `decoder`
    encoder: Tensor
    decoder: Tensor
    cross: Tensor


def attention_maps(model: Transformer, vocabulary: Vocabulary, source: str, target: str) -> AttentionMaps:
    """The weights with which `model` reads `source` and writes `target`.

    Raises:
        DataError: a side is empty, longer than the model's positions or than MAX_PIECES.
    """
    source_ids = [*_encoded(model, vocabulary, source, "source"), EOS]
    target_ids = _encoded(model, vocabulary, target, "target")
    with torch.inference_mode(), RecordedAttention() as recorded:
        model.hidden(_row(model, source_ids), _row(model, [BOS, *target_ids]))
    # In the order of computation: the encoder's layers, then each decoder layer's self- and cross-attention.
    weights = [one[0].float().cpu() for one in recorded.weights]
    depth = model.params.encoder_layers
    return AttentionMaps(
        vocabulary.pieces(source_ids),
        vocabulary.pieces([*target_ids, EOS]),
        vocabulary.pieces([BOS, *target_ids]),
        encoder=torch.stack(weights[:depth]),
        decoder=torch.stack(weights[depth::2]),
        cross=torch.stack(weights[depth + 1 :: 2]),
    )


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


def most_pieces(model: Transformer) -> int:
    """The longest side that `attention_maps` takes."""
    return min(MAX_PIECES, model.params.max_positions - 1)


def _encoded(model: Transformer, vocabulary: Vocabulary, text: str, side: str) -> list[int]:
    ids = vocabulary.encode(clean_text(text))
    if not 0 < len(ids) <= most_pieces(model):
        raise DataError(f"the {side} has {len(ids)} pieces; attention is shown for 1 to {most_pieces(model)}")
    return ids


def _row(model: Transformer, ids: list[int]) -> Tensor:
    return torch.tensor([ids], device=model.device)
