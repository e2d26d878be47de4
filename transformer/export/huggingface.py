"""For Hugging Face's transformers: a folder that AutoModelForSeq2SeqLM and AutoTokenizer load, made without them.

A post-norm model is a `MarianMTModel`, which is the paper's network; a pre-norm model a
`PegasusForConditionalGeneration`, which differs from it in nothing else. Both put the sines of the positions into the
first half of a vector and the cosines into the second, where the paper and this project let them alternate, so the
features of all weights are put into that order.
"""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from transformer.export.folder import check_network, export_folder, origin_of
from transformer.files import write_json
from transformer.model.checkpoints import write_tensors
from transformer.model.folder import WEIGHTS_FILE, LoadedModel, load_model
from transformer.model.layers import DecoderLayer, EncoderLayer, FeedForward, MultiHeadAttention
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, read_decoding
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK

USUAL_LENGTH = 20  # tokens; where the one power of |Y| that generate has is as steep as our length penalty
USE = """\
Load it with `AutoModelForSeq2SeqLM.from_pretrained(".")` and `AutoTokenizer.from_pretrained(".")`, which need
`transformers`, `sentencepiece` and `torch`:

    tokens = tokenizer(["text"], return_tensors="pt", padding=True)
    print(tokenizer.batch_decode(model.generate(**tokens), skip_special_tokens=True))

Its own length penalty is another one: docs/exports.md tells how hypotheses are put in order of ours.
"""


def export_huggingface(model: Path, folder: Path) -> None:
    """Write `folder`, weights, settings and tokenizer; replaces one of an earlier export.

    Raises:
        ParamsError: there is no such network.
        DataError: the model folder is incomplete or malformed, or `folder` is there and is no export.
    """
    loaded = load_model(model, torch.device("cpu"))
    params = loaded.model.params
    check_network(params, "Hugging Face")
    decoding = read_decoding(model)
    with export_folder(folder, model, origin_of(model, "huggingface", None), USE) as new:
        write_tensors(new / WEIGHTS_FILE, weights(loaded.model), {"format": "pt"})
        write_json(new / "config.json", _config(loaded))
        write_json(new / "generation_config.json", _generation(decoding, params.max_positions))
        _write_tokenizer(new, loaded)


def weights(model: Transformer) -> dict[str, Tensor]:
    """The weights by Hugging Face's names, the features of vectors in its order."""
    order = torch.cat([torch.arange(start, model.params.d_model, 2) for start in (0, 1)])
    embedding = model.embedding.weight.detach()[:, order]
    found = {"model.shared.weight": embedding, "final_logits_bias": torch.zeros(1, len(embedding))}
    for side, layers in (("encoder", model.encoder), ("decoder", model.decoder)):
        found[f"model.{side}.embed_positions.weight"] = model.positions.table.detach()[:, order]
        for number, layer in enumerate(layers):
            found |= _within(f"model.{side}.layers.{number}", _layer(cast(EncoderLayer | DecoderLayer, layer), order))
    if model.params.norm == "pre":
        for side, norm in (("encoder", model.encoder_norm), ("decoder", model.decoder_norm)):
            found |= _within(f"model.{side}.layer_norm", _norm(cast(nn.LayerNorm, norm), order))
    return found


def _layer(layer: EncoderLayer | DecoderLayer, order: Tensor) -> dict[str, Tensor]:
    found = {
        **_within("self_attn", _attention(layer.self_attention, order)),
        **_within("self_attn_layer_norm", _norm(layer.around_self_attention.norm, order)),
        **_feed_forward(layer.feed_forward, order),
        **_within("final_layer_norm", _norm(layer.around_feed_forward.norm, order)),
    }
    if isinstance(layer, DecoderLayer):
        found |= _within("encoder_attn", _attention(layer.cross_attention, order))
        found |= _within("encoder_attn_layer_norm", _norm(layer.around_cross_attention.norm, order))
    return found


def _attention(attention: MultiHeadAttention, order: Tensor) -> dict[str, Tensor]:
    matrices = attention.project_in.weight.detach()[:, order].split(attention.widths)
    offsets = attention.project_in.bias.detach().split(attention.widths)
    found = {
        f"{name}_proj.{kind}": tensor
        for name, *both in zip("qkv", matrices, offsets, strict=True)
        for kind, tensor in zip(("weight", "bias"), both, strict=True)
    }
    out = attention.project_out
    return {**found, "out_proj.weight": out.weight.detach()[order], "out_proj.bias": out.bias.detach()[order]}


def _feed_forward(network: FeedForward, order: Tensor) -> dict[str, Tensor]:
    return {
        "fc1.weight": network.inner.weight.detach()[:, order],
        "fc1.bias": network.inner.bias.detach(),
        "fc2.weight": network.outer.weight.detach()[order],
        "fc2.bias": network.outer.bias.detach()[order],
    }


def _norm(norm: nn.LayerNorm, order: Tensor) -> dict[str, Tensor]:
    return {"weight": norm.weight.detach()[order], "bias": norm.bias.detach()[order]}


def _within(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": tensor for key, tensor in tensors.items()}


def _config(loaded: LoadedModel) -> dict[str, Any]:
    params, pre = loaded.model.params, loaded.model.params.norm == "pre"
    return {
        "architectures": ["PegasusForConditionalGeneration" if pre else "MarianMTModel"],
        "model_type": "pegasus" if pre else "marian",
        "vocab_size": loaded.vocabulary.size,
        "d_model": params.d_model,
        "encoder_layers": params.encoder_layers,
        "decoder_layers": params.decoder_layers,
        "encoder_attention_heads": params.heads,
        "decoder_attention_heads": params.heads,
        "encoder_ffn_dim": params.d_ff,
        "decoder_ffn_dim": params.d_ff,
        "activation_function": "relu",
        "dropout": params.dropout,
        "attention_dropout": 0.0,
        "activation_dropout": 0.0,
        "max_position_embeddings": params.max_positions,
        "scale_embedding": True,
        "share_encoder_decoder_embeddings": True,
        "tie_word_embeddings": True,
        "use_cache": True,
        **_special_ids(),
        "forced_eos_token_id": EOS,
        "dtype": "float32",
    }


def _generation(decoding: DecodingParams, max_positions: int) -> dict[str, Any]:
    """As our search does it: what it never emits, and the end of sentence at the greatest length."""
    return {
        **_special_ids(),
        "forced_eos_token_id": EOS,
        "suppress_tokens": [PAD, UNK, BOS],
        "max_length": max_positions + 1,  # it counts the begin of sentence
        "num_beams": decoding.beam,
        **({"early_stopping": True} if decoding.beam > 1 else {}),
        **({"length_penalty": decoding.alpha * USUAL_LENGTH / (5 + USUAL_LENGTH)} if decoding.beam > 1 else {}),
    }


def _special_ids() -> dict[str, int]:
    return {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS, "decoder_start_token_id": BOS}


def _write_tokenizer(folder: Path, loaded: LoadedModel) -> None:
    """Marian's tokenizer, which cuts with SentencePiece itself."""
    vocabulary = loaded.vocabulary
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(vocabulary.model)
    pieces = vocabulary.pieces(list(range(vocabulary.size)))
    write_json(folder / "vocab.json", {piece: id_ for id_, piece in enumerate(pieces)})
    special = {"pad": PAD, "unk": UNK, "bos": BOS, "eos": EOS}
    settings = {
        "tokenizer_class": "MarianTokenizer",
        "source_lang": loaded.languages.source,
        "target_lang": loaded.languages.target,
        "model_max_length": loaded.model.params.max_positions,
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # `<unk>` in a text is text
        **{f"{name}_token": pieces[id_] for name, id_ in special.items()},
    }
    write_json(folder / "tokenizer_config.json", settings)
