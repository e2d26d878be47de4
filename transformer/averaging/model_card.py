"""What a person who is handed the model folder alone should read first."""

from typing import Any

from transformer.averaging.params import AveragingParams
from transformer.decoding.params import DecodingParams
from transformer.model.folder import ModelConfig


def model_card(
    config: ModelConfig, params: AveragingParams, decoding: DecodingParams, averaged: list[dict[str, Any]]
) -> str:
    """Markdown; holds no times, so that equal models have equal cards."""
    source, target = config.languages.source, config.languages.target
    model = config.model
    return f"""# Translation model {source} → {target}

A Transformer as in "Attention Is All You Need" (Vaswani et al., 2017).

| | |
|---|---|
| layers | {model.encoder_layers} encoder, {model.decoder_layers} decoder, {model.norm}-norm |
| width | d_model {model.d_model}, d_ff {model.d_ff}, {model.heads} heads |
| positions | {model.positions}, up to {model.max_positions} tokens |
| vocabulary | {config.vocabulary_size} byte-pair pieces, shared by both languages |
| weights | mean of {len(averaged)} checkpoints, rule `{params.rule}` |
| search | beam {decoding.beam}, length penalty alpha {decoding.alpha} |

Translate with this folder alone:

    echo "text" | transformer translate --model .

| checkpoint | update | validation loss | sha256 |
|---|---|---|---|
{_rows(averaged)}
"""


def _rows(averaged: list[dict[str, Any]]) -> str:
    def loss(entry: dict[str, Any]) -> str:
        return "" if entry["valid_loss"] is None else f"{entry['valid_loss']:.4f}"

    return "\n".join(f"| {one['file']} | {one['update']} | {loss(one)} | `{one['sha256']}` |" for one in averaged)
