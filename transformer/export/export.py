"""A model folder becomes an export: one function for all formats."""

from pathlib import Path

from transformer.errors import DataError, ParamsError
from transformer.export.ctranslate2 import Quantization, export_ctranslate2
from transformer.export.folder import ORIGIN_FILE, Format


def export(model: Path, to: Format, folder: Path, quantization: Quantization = "float32") -> None:
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
    if to == "huggingface":
        from transformer.export.huggingface import export_huggingface

        export_huggingface(model, folder)
    else:
        from transformer.export.onnx import export_onnx

        export_onnx(model, folder)
