"""Attention weights of a sentence pair (paper, appendix)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.data.cleaning import clean_text
from transformer.decoding.recorded_attention import RecordedAttention
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
