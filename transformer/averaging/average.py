"""The average stage: the mean of the chosen checkpoints' weights as a self-contained model folder."""

import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer.averaging.model_card import model_card
from transformer.averaging.params import AveragingParams
from transformer.averaging.selection import select
from transformer.data.tokenize.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.decoding.params import DECODING_FILE, DecodingParams
from transformer.errors import DataError
from transformer.files import sha256_of, write_json, write_text
from transformer.model.folder import read_config, write_model
from transformer.model.weights import read_weights
from transformer.training.checkpoints import Checkpoint, read_index, vocabulary_hash

log = logging.getLogger(__name__)

CARD_FILE = "model_card.md"
LIST_FILE = "averaged.json"


def average(params: AveragingParams, decoding: DecodingParams, checkpoints: Path, tokens: Path, model: Path) -> None:
    """Average the checkpoints that the rule picks into the folder `model`, which keeps the search's settings too.

    Raises:
        ParamsError: the rule finds too few checkpoints, or near-duplicates.
        DataError: a checkpoint is missing, has changed since training, or was trained with another vocabulary.
    """
    chosen = select(params, read_index(checkpoints))
    log.info("averaging %d checkpoints: %s", len(chosen), ", ".join(one.file for one in chosen))
    files = [checkpoints / one.file for one in chosen]
    vocabulary_file = tokens / VOCABULARY_FILE
    check_vocabularies(files, vocabulary_file)
    config = read_config(checkpoints)
    write_model(model, config, mean_weights(files), Vocabulary.load(vocabulary_file))
    write_json(model / DECODING_FILE, decoding.model_dump())
    entries = [_entry(one, file) for one, file in zip(chosen, files, strict=True)]
    write_json(
        model / LIST_FILE, {"rule": params.rule, "vocabulary": sha256_of(vocabulary_file), "averaged": entries}
    )
    write_text(model / CARD_FILE, model_card(config, params, decoding, entries))


def check_vocabularies(files: list[Path], vocabulary: Path) -> None:
    """Weights trained with different vocabularies have nothing to average.

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
