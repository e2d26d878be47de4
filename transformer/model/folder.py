"""The model folder: weights, configuration, search and vocabulary, enough to translate, export and audit."""

from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from transformer.errors import DataError
from transformer.files import atomic_path, write_json
from transformer.model.checkpoints import read_weights, write_tensors
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, LanguageParams, ModelParams
from transformer.section import Section
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
DECODING_FILE = "decoding.json"


class ModelConfig(Section):
    """config.json: what the weights alone do not tell."""

    format: int = Field(default=1, ge=1, le=1)
    languages: LanguageParams
    vocabulary_size: int
    model: ModelParams


@dataclass(frozen=True)
class LoadedModel:
    """A network in evaluation mode with its vocabulary."""

    model: Transformer
    vocabulary: Vocabulary
    languages: LanguageParams


def write_config(folder: Path, config: ModelConfig) -> None:
    """Write config.json into `folder`."""
    write_json(folder / CONFIG_FILE, config.model_dump())


def read_config(folder: Path) -> ModelConfig:
    """The checked config.json of a model or checkpoints folder.

    Raises:
        DataError: it is missing or malformed.
    """
    return ModelConfig.read(folder / CONFIG_FILE)


def read_decoding(folder: Path) -> DecodingParams:
    """The search settings with which the model folder was scored.

    Raises:
        DataError: they are missing or malformed.
    """
    return DecodingParams.read(folder / DECODING_FILE)


def write_model(folder: Path, config: ModelConfig, weights: dict[str, Tensor], vocabulary: Vocabulary) -> None:
    """Write a model folder; equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS_FILE, weights)
    with atomic_path(folder / VOCABULARY_FILE) as temporary:
        temporary.write_bytes(vocabulary.model)
    write_config(folder, config)


def load_model(folder: Path, device: torch.device) -> LoadedModel:
    """Read a model folder; nothing outside it is needed.

    Raises:
        DataError: a file is missing, malformed, or does not fit the others.
    """
    config = read_config(folder)
    weights = read_weights(folder / WEIGHTS_FILE)
    return assemble_model(config, weights, Vocabulary.load(folder / VOCABULARY_FILE), device)


def assemble_model(
    config: ModelConfig, weights: dict[str, Tensor], vocabulary: Vocabulary, device: torch.device
) -> LoadedModel:
    """A network with these weights, ready to translate.

    Raises:
        DataError: weights, configuration and vocabulary do not fit each other.
    """
    if vocabulary.size != config.vocabulary_size:
        raise DataError(f"the vocabulary has {vocabulary.size} pieces but the model {config.vocabulary_size}")
    model = Transformer(config.model, config.vocabulary_size)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise DataError(f"the weights do not fit config.json: {' '.join(str(error).split())}") from None
    return LoadedModel(model.to(device).eval(), vocabulary, config.languages)
