"""Translations by a registered model, of which only data is used: the code that lies beside it never runs here.

MLflow's own loading would execute that code, which comes from whoever can write to the registry or to its artifacts.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import mlflow

# Here, not where it is needed: a retraining must not depend on what the checkout holds when its training ends.
from transformer.decoding.translator import Translator
from transformer.errors import DataError
from transformer.files import sha256_of
from transformer.model.folder import read_decoding

FOLDER = "artifacts/model"  # where MLflow keeps the model folder: safetensors, JSON, SentencePiece


@dataclass(frozen=True)
class Search:
    """What two models must share to be compared: the precision changes a few translations in a hundred."""

    precision: Literal["fp32", "bf16"]
    device: str  # as decoding.device


def translate(uri: str, name: str, number: str, sha256: str, search: Search, sources: list[str]) -> list[str]:
    """The translations by version `number` of the registered model `name`, with the rest of its own search settings.

    Raises:
        DataError: the registered model folder is not the one with the hash `sha256`, or not readable as a model.
        MlflowException: the registry at `uri` does not have it.
    """
    stored = mlflow.MlflowClient(tracking_uri=uri).get_model_version_download_uri(name, number)
    with tempfile.TemporaryDirectory() as temporary:
        path = mlflow.artifacts.download_artifacts(f"{stored}/{FOLDER}", dst_path=temporary, tracking_uri=uri)
        if (found := sha256_of(Path(path))) != sha256:
            raise DataError(f"it has sha256 {found[:12]}, not {sha256[:12]} as when it was registered")
        decoding = read_decoding(Path(path)).model_copy(update={"precision": search.precision})
        return Translator.load(Path(path), search.device, decoding).translate(sources)
