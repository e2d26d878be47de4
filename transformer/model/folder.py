"""The model folder: weights, configuration, search and vocabulary, enough to translate, export and audit."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from transformer.errors import DataError
from transformer.files import atomic_path, files_below, sha256_of, write_json
from transformer.model.checkpoints import read_weights, write_tensors
from transformer.model.transformer import Transformer
from transformer.params import LanguageParams, ModelParams
from transformer.section import Section
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
LIST_FILE = "averaged.json"  # the checkpoints that were averaged, and the hashes of all other files


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


def write_model(folder: Path, config: ModelConfig, weights: dict[str, Tensor], vocabulary: Vocabulary) -> None:
    """Write a model folder; equal arguments give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS_FILE, weights)
    with atomic_path(folder / VOCABULARY_FILE) as temporary:
        temporary.write_bytes(vocabulary.model)
    write_config(folder, config)


def file_hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file of a model folder but the list that holds them."""
    return {file.name: sha256_of(file) for file in files_below(folder) if file.name != LIST_FILE}


def check_files(folder: Path) -> None:
    """Compare the files of a model folder with the hashes in its averaged.json; without hashes it is taken as it is.

    A file that this process has hashed before is not read again while its time and size stay the same.

    Raises:
        DataError: a file is missing or not as it was written.
    """
    path = folder / LIST_FILE
    try:
        listed = json.loads(path.read_text(encoding="utf-8")).get("files", {})
        hashes = {str(name): str(sha256) for name, sha256 in listed.items()}
    except FileNotFoundError:
        return
    except (ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({' '.join(str(error).split())}): {_CURE}") from None
    for name, expected in hashes.items():
        file = folder / name
        if not file.is_file():
            raise DataError(f"{file} is missing: {_CURE}")
        state = (file.stat().st_mtime_ns, file.stat().st_size, expected)
        if _verified.get(file.resolve()) != state:
            if (found := sha256_of(file)) != expected:
                raise DataError(f"{file} is damaged: written with sha256 {expected}, found {found}: {_CURE}")
            _verified[file.resolve()] = state


_CURE = "fetch the model again, or run python -m flows.restore average"
_verified: dict[Path, tuple[int, int, str]] = {}


def load_model(folder: Path, device: torch.device) -> LoadedModel:
    """Read a model folder; nothing outside it is needed.

    Raises:
        DataError: a file is missing, malformed, or does not fit the others.
    """
    check_files(folder)
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
        raise DataError(f"the weights do not fit config.json: {' '.join(str(error).split())[:300]}") from None
    return LoadedModel(model.to(device).eval(), vocabulary, config.languages)
