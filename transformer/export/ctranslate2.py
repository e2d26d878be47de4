"""For CTranslate2: its own description of a Transformer, filled with the weights of a model folder.

The network is the same, and so are the hypotheses that its search finishes; only their order differs, as it divides
log P by |Y| ** length_penalty where ours divides by ((5 + |Y|) / 6) ** alpha (Wu et al. 2016, equation 14).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from transformer.export.folder import check_network, export_folder, origin_of
from transformer.export.origin import not_installed
from transformer.model.folder import LoadedModel, load_model
from transformer.model.layers import DecoderLayer, EncoderLayer, FeedForward, MultiHeadAttention
from transformer.params import Quantization

if TYPE_CHECKING:
    from ctranslate2.specs import TransformerSpec

USE = """\
Translate with this folder alone:

    echo "text" | transformer translate --engine ctranslate2 --model .

or load it with `ctranslate2.Translator(".")`, which takes the pieces of spm.model and returns pieces. Its own length
penalty is another one: docs/exports.md tells how hypotheses are put in order of ours.
"""


def export_ctranslate2(model: Path, folder: Path, quantization: Quantization) -> None:
    """Write `folder`, which `ctranslate2.Translator` loads; replaces one of an earlier export.

    Raises:
        ParamsError: CTranslate2 is not installed, or has no such network.
        DataError: the model folder is incomplete or malformed, or `folder` is there and is no export.
    """
    spec = transformer_spec(load_model(model, torch.device("cpu")))
    spec.validate()
    spec.optimize(quantization=None if quantization == "float32" else quantization)
    with export_folder(folder, model, origin_of(model, "ctranslate2", quantization), USE) as new:
        spec.save(str(new))


def transformer_spec(loaded: LoadedModel) -> "TransformerSpec":
    """The description of this network with its weights, not quantized."""
    try:
        from ctranslate2.specs import TransformerSpec
    except ModuleNotFoundError:
        raise not_installed("ctranslate2", "ctranslate2") from None
    model, vocabulary = loaded.model, loaded.vocabulary
    params = model.params
    check_network(params, "CTranslate2")
    layers = params.encoder_layers, params.decoder_layers
    spec = TransformerSpec.from_config(layers, params.heads, pre_norm=params.norm == "pre")
    for side in (spec.encoder, spec.decoder):
        embeddings = side.embeddings[0] if isinstance(side.embeddings, list) else side.embeddings
        embeddings.weight = model.embedding.weight.detach()
        side.position_encodings.encodings = model.positions.table.detach()
    spec.decoder.projection.weight = model.embedding.weight.detach()
    for described, layer in zip(spec.encoder.layer, model.encoder, strict=True):
        _fill_encoder_layer(described, cast(EncoderLayer, layer))
    for described, layer in zip(spec.decoder.layer, model.decoder_layers, strict=True):
        _fill_decoder_layer(described, layer)
    if params.norm == "pre":
        _fill_norm(spec.encoder.layer_norm, model.encoder_norm)
        _fill_norm(spec.decoder.layer_norm, model.decoder_norm)
    pieces = vocabulary.pieces(list(range(vocabulary.size)))
    spec.register_source_vocabulary(pieces)
    spec.register_target_vocabulary(pieces)
    spec.config.layer_norm_epsilon = model.decoder_layers[0].around_feed_forward.norm.eps
    spec.config.add_source_eos = True
    return spec


def _fill_encoder_layer(described: Any, layer: EncoderLayer) -> None:
    _fill_attention(described.self_attention, layer.self_attention, layer.around_self_attention.norm)
    _fill_feed_forward(described.ffn, layer.feed_forward, layer.around_feed_forward.norm)


def _fill_decoder_layer(described: Any, layer: DecoderLayer) -> None:
    _fill_attention(described.self_attention, layer.self_attention, layer.around_self_attention.norm)
    _fill_attention(described.attention, layer.cross_attention, layer.around_cross_attention.norm)
    _fill_feed_forward(described.ffn, layer.feed_forward, layer.around_feed_forward.norm)


def _fill_attention(described: Any, attention: MultiHeadAttention, norm: nn.LayerNorm) -> None:
    """Queries, keys and values are one matrix in self-attention; in attention to the source the queries are apart."""
    weight, bias = attention.project_in.weight.detach(), attention.project_in.bias.detach()
    parts = len(described.linear) - 1
    rows = [sum(attention.widths)] if parts == 1 else [attention.widths[0], sum(attention.widths[1:])]
    for linear, part, offset in zip(described.linear, weight.split(rows), bias.split(rows), strict=False):
        linear.weight, linear.bias = part, offset
    _fill_linear(described.linear[-1], attention.project_out)
    _fill_norm(described.layer_norm, norm)


def _fill_feed_forward(described: Any, network: FeedForward, norm: nn.LayerNorm) -> None:
    _fill_linear(described.linear_0, network.inner)
    _fill_linear(described.linear_1, network.outer)
    _fill_norm(described.layer_norm, norm)


def _fill_linear(described: Any, linear: nn.Linear) -> None:
    described.weight, described.bias = linear.weight.detach(), linear.bias.detach()


def _fill_norm(described: Any, norm: Any) -> None:
    described.gamma, described.beta = norm.weight.detach(), norm.bias.detach()
