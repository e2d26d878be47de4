"""The average stage: the mean of the chosen checkpoints' weights (paper, section 6.1) as a self-contained folder."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer.errors import DataError, ParamsError
from transformer.files import sha256_of, write_json, write_text
from transformer.model.checkpoints import Checkpoint, read_index, read_parent, read_weights, vocabulary_hash
from transformer.model.folder import LIST_FILE, ModelConfig, file_hashes, read_config, write_model
from transformer.params import DECODING_FILE, AveragingParams, DecodingParams
from transformer.relations import TOLERANCE, far_apart
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

log = logging.getLogger(__name__)

CARD_FILE = "model_card.md"


def average(params: AveragingParams, decoding: DecodingParams, checkpoints: Path, tokens: Path, model: Path) -> None:
    """Average the checkpoints that the rule picks into the folder `model`, beside the settings of the search.

    Raises:
        ParamsError: the rule finds too few checkpoints.
        DataError: a checkpoint is missing, has changed since training, or was trained with another vocabulary.
    """
    chosen = select(params, read_index(checkpoints))
    few = f" of at most {params.count}" if len(chosen) < params.count else ""
    log.info("averaging %d%s checkpoints: %s", len(chosen), few, ", ".join(one.file for one in chosen))
    files = [checkpoints / one.file for one in chosen]
    vocabulary_file = tokens / VOCABULARY_FILE
    vocabulary = Vocabulary.load(vocabulary_file)
    check_vocabularies(files, vocabulary_file)
    config = read_config(checkpoints)
    write_model(model, config, mean_weights(files), vocabulary)
    write_json(model / DECODING_FILE, decoding.model_dump(exclude={"device"}))  # the folder may go to any machine
    entries = [_entry(one, file) for one, file in zip(chosen, files, strict=True)]
    parent = read_parent(checkpoints)
    write_text(model / CARD_FILE, model_card(config, params, decoding, entries, parent))
    write_json(
        model / LIST_FILE,
        {
            "rule": params.rule,
            "vocabulary": sha256_of(vocabulary_file),
            "averaged": entries,
            **({"parent": parent} if parent else {}),
            "files": file_hashes(model),
        },
    )


def check_vocabularies(files: list[Path], vocabulary: Path) -> None:
    """Weights that were trained with different vocabularies cannot be averaged.

    Raises:
        DataError: names the checkpoint that another vocabulary trained.
    """
    expected = sha256_of(vocabulary)
    for file in files:
        if (found := vocabulary_hash(file)) != expected:
            raise DataError(f"{file} was trained with the vocabulary {found}, not {expected} ({vocabulary})")


def mean_weights(files: list[Path]) -> dict[str, Tensor]:
    """The arithmetic mean of each tensor over the files, summed in float64, as float32.

    Raises:
        DataError: the files do not hold the same tensors.
    """
    total: dict[str, Tensor] = {}
    for file in files:
        weights = read_weights(file)
        shapes = {name: tensor.shape for name, tensor in weights.items()}
        if total and shapes != {name: tensor.shape for name, tensor in total.items()}:
            raise DataError(f"{file} holds other tensors than {files[0]}: they are checkpoints of different models")
        for name, tensor in weights.items():
            total[name] = total[name] + tensor if name in total else tensor.to(torch.float64)
    return {name: (tensor / len(files)).to(torch.float32) for name, tensor in total.items()}


def _entry(checkpoint: Checkpoint, file: Path) -> dict[str, Any]:
    loss = checkpoint.valid_loss
    return {"file": file.name, "update": checkpoint.update, "valid_loss": loss, "sha256": sha256_of(file)}


def select(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that the rule picks, in order of update (the paper: the last 5 of base, the last 20 of big).

    At most `count`, of which none is a near-duplicate of one that comes before it by the rule.

    Raises:
        ParamsError: there are fewer than `at_least`.
    """
    preferred = {"last": _last, "best": _best, "minutes": _minutes}[params.rule](params, checkpoints)
    chosen = far_apart((one.update for one in preferred), params.count, params.min_updates_apart)
    if len(chosen) < params.at_least:
        raise ParamsError(
            f"averaging.at_least = {params.at_least}, but the rule {params.rule} finds only {len(chosen)} of "
            f"{len(checkpoints)} checkpoints, min_updates_apart = {params.min_updates_apart} apart: lower one of "
            "them, or train on with a larger training.keep_last"
        )
    return [one for one in checkpoints if one.update in chosen]


def _last(_params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    return [one for one in reversed(checkpoints) if one.scheduled]


def _best(_params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    validated = [(one.valid_loss, one.update, one) for one in checkpoints if one.valid_loss is not None]
    return [one for _, _, one in sorted(validated)]


def _minutes(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """From the last one backwards, each at least `minutes_apart` before the one chosen before it."""
    chosen: list[Checkpoint] = []
    previous = float("inf")
    for one in _last(params, checkpoints):
        if one.minutes is None:
            raise ParamsError("averaging.rule = minutes needs training.checkpoint_every_minutes to be set")
        # A checkpoint is written after the first update past the mark, so two may be slightly less than that apart.
        if previous - one.minutes >= params.minutes_apart * TOLERANCE:
            chosen.append(one)
            previous = one.minutes
    return chosen


def model_card(
    config: ModelConfig,
    params: AveragingParams,
    decoding: DecodingParams,
    averaged: list[dict[str, Any]],
    parent: dict[str, str] | None = None,
) -> str:
    """What a person who is handed the model folder alone should read first; equal models have equal cards."""
    source, target = config.languages.source, config.languages.target
    model = config.model
    started = f"\n| training started from | {parent['name']}, sha256 `{parent['sha256']}` |" if parent else ""
    return f"""# Translation model {source} → {target}

A Transformer as in "Attention Is All You Need" (Vaswani et al., 2017).

| | |
|---|---|
| layers | {model.encoder_layers} encoder, {model.decoder_layers} decoder, {model.norm}-norm |
| width | d_model {model.d_model}, d_ff {model.d_ff}, {model.heads} heads |
| positions | {model.positions}, up to {model.max_positions} tokens |
| vocabulary | {config.vocabulary_size} byte-pair pieces, shared by both languages |
| weights | mean of {len(averaged)} checkpoints, rule `{params.rule}` |{started}
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
