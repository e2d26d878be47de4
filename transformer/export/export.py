"""A model folder becomes an export: one function for all formats."""

from importlib.util import find_spec
from pathlib import Path

from transformer.errors import DataError, ParamsError
from transformer.export.ctranslate2 import export_ctranslate2
from transformer.export.huggingface import export_huggingface
from transformer.export.onnx import export_onnx, missing_package
from transformer.export.origin import ORIGIN_FILE, not_installed
from transformer.files import sha256_of, write_json
from transformer.params import ExportFormat, ExportParams, Quantization

LIST_FILE = "exports.json"  # of the stage: which formats there are, with the hashes of their folders


def export(model: Path, to: ExportFormat, folder: Path, quantization: Quantization = "float32") -> None:
    """Write the model folder `model` as `folder` in the format `to`; the folder is whole or not there.

    Raises:
        ParamsError: a package is not installed, or the format has no such network or no such quantization.
        DataError: the model folder is incomplete or malformed, or `folder` is there and is no export.
    """
    if (model / ORIGIN_FILE).is_file():
        raise DataError(f"{model} is an export itself: name the model folder that it was made from")
    if to == "ctranslate2":
        export_ctranslate2(model, folder, quantization)
        return
    if quantization != "float32":
        raise ParamsError(f"--quantization {quantization} is for --to ctranslate2; {to} has float32 weights")
    if to == "onnx":
        export_onnx(model, folder)
    else:
        export_huggingface(model, folder)


def export_all(model: Path, params: ExportParams, folder: Path) -> None:
    """Write a folder for each format below `folder`, and the list of them.

    Raises:
        ParamsError, DataError: as of `export`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for to in params.formats:
        export(model, to, folder / to, params.quantization if to == "ctranslate2" else "float32")
    hashes = {to: sha256_of(folder / to) for to in params.formats}
    write_json(folder / LIST_FILE, {"model": sha256_of(model), "formats": hashes})


def check_formats(params: ExportParams) -> None:
    """ParamsError if a package is not installed that a format needs."""
    if "ctranslate2" in params.formats and find_spec("ctranslate2") is None:
        raise not_installed("ctranslate2", "ctranslate2")
    if "onnx" in params.formats and (missing := missing_package()):
        raise missing
