"""Translations by a registered model."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flows.promotion.model_files import fetched
from transformer.decoding.translator import Translator

# Here, not where it is needed: a retraining must not depend on what the checkout holds when its training ends.
from transformer.params import read_decoding


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
    with tempfile.TemporaryDirectory() as temporary:
        path = fetched(uri, name, number, sha256, Path(temporary))
        decoding = read_decoding(path).model_copy(update={"precision": search.precision})
        return Translator.load(path, search.device, decoding).translate(sources)
