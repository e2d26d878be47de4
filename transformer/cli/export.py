"""`transformer export`: a model folder in the form that other programs load."""

import argparse
from pathlib import Path
from typing import get_args

from transformer.cli.arguments import DEFAULT_MODEL, Commands, check_model
from transformer.cli.output import write_out
from transformer.params import ExportFormat, Quantization


def add(commands: Commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "export",
        help="write a model for CTranslate2, Hugging Face or ONNX",
        description="Write a model folder in the form that other programs load, whole or not at all.",
        epilog="docs/exports.md tells what each is for, and where it differs from transformer translate",
    )
    command.set_defaults(run=export)
    option, default = command.add_argument, "(default: %(default)s)"
    option("model", nargs="?", type=Path, default=DEFAULT_MODEL, metavar="MODEL", help=f"model folder {default}")
    option("--to", required=True, choices=get_args(ExportFormat), help="what is to load it")
    help_ = f"of the weights, for ctranslate2 {default}"
    option("--quantization", choices=get_args(Quantization), default="float32", help=help_)
    option("--out", type=Path, metavar="FOLDER", help="the new folder (default: beside MODEL, MODEL-FORMAT)")


def export(options: argparse.Namespace) -> None:
    """`transformer export`: prints the folder that it has written.

    Raises:
        ParamsError: a package is not installed, or the format has no such network.
        DataError: the model folder is missing or malformed, or --out is there and is no export.
    """
    check_model(options.model)
    # Here, as torch takes seconds to import.
    from transformer.export.export import export as write
    from transformer.export.origin import default_folder

    folder = options.out or default_folder(options.model, options.to)
    write(options.model, options.to, folder, options.quantization)
    write_out(f"{folder}\n")
