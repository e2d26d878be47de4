"""Reading weights from safetensors files."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from transformer.errors import DataError


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint or model file, by parameter name.

    Raises:
        DataError: the file is missing or not safetensors.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`, or `dvc pull` to fetch it") from None
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from None
