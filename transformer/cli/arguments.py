"""What the commands' options share: one-line errors, the limits of the settings, where the model is."""

import argparse
import math
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from pydantic import ValidationError

from transformer.cli.output import write_out
from transformer.cli.torch_import import import_torch
from transformer.errors import DataError, ParamsError
from transformer.params import DecodingParams, read_decoding
from transformer.section import SHOWN_CHARACTERS, in_words, shown

DEFAULT_MODEL = Path("models/averaged")
SEARCH: dict[str, tuple[type[int] | type[float], str, str]] = {
    "beam": (int, "N", "beam width, 1 to 64"),
    "alpha": (float, "A", "length penalty, >= 0"),
    "batch_tokens": (int, "N", "padded source tokens worked on at a time"),
}


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise ParamsError(f"{message} (see {self.prog} --help)")

    def _print_message(self, message: str, file: object = None) -> None:
        write_out(message)  # help; errors are raised


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def add_model(command: argparse.ArgumentParser, several: bool = False) -> None:
    """Which model, and where it runs; with `several`, a list of models, None where none is named."""
    add, shown = command.add_argument, "(default: %(default)s)"
    if several:
        averaged = f"model folder; given again, the models' probabilities are averaged (default: {DEFAULT_MODEL})"
        add("--model", type=Path, action="append", metavar="FOLDER", help=averaged)
    else:
        add("--model", type=Path, default=DEFAULT_MODEL, metavar="FOLDER", help=f"model folder {shown}")
    add("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help=shown)
    rounding = (
        "of the matrix products; fp32 translates alike on any machine and in any batch (default: the model's own)"
    )
    add("--precision", choices=["auto", "fp32", "bf16"], help=rounding)


def add_search(command: argparse.ArgumentParser, *fields: str) -> None:
    """Options for these settings of the search, whose defaults are the model's own; `search_settings` reads them."""
    for field in fields:
        kind, letter, meaning = SEARCH[field]
        command.add_argument(
            f"--{field.replace('_', '-')}", type=within(field, kind), metavar=letter,
            help=f"{meaning} (default: the model's own)",
        )  # fmt: skip


def search_settings(options: argparse.Namespace, *names: str) -> DecodingParams:
    """The search settings of the (first) model that `options` name, with those of `names` and the precision in them.

    Raises:
        ParamsError: one is outside its range.
        DataError: the model folder is incomplete or malformed.
    """
    if getattr(options, "engine", "torch") == "torch":
        import_torch()  # here, as it takes a second
    asked = {name: value for name in (*names, "precision") if (value := getattr(options, name)) is not None}
    model = options.model[0] if isinstance(options.model, list) else options.model
    try:
        return DecodingParams.model_validate({**read_decoding(model).model_dump(), **asked})
    except ValidationError as error:
        raise ParamsError(f"--{in_words(error, str).replace('_', '-')}") from None


def check_model(folder: Path, how: str = "with --model") -> None:
    """DataError unless there is a folder; `how` another one is named."""
    if not os.path.isdir(folder):  # Path.is_dir fails for names that no file can have
        what = "is no folder" if os.path.exists(folder) else "is missing"
        raise DataError(f"{shown(str(folder))} {what}: run `make repro`, or name a model folder {how}")


def within(field: str, kind: type[int] | type[float]) -> Callable[[str], float]:
    """A converter that checks the limits of a decoding parameter and names them in its error."""
    limits = DecodingParams.model_fields[field].metadata
    least = next(limit.ge for limit in limits if hasattr(limit, "ge"))
    most = next((limit.le for limit in limits if hasattr(limit, "le")), None)
    return number(kind, least, most)


def number(kind: type[int] | type[float], least: float, most: float | None = None) -> Callable[[str], float]:
    """A converter that checks these limits and names them in its error."""
    allowed = ("a whole number" if kind is int else "a number") + (
        f" from {least} to {most}" if most is not None else f", at least {least}"
    )

    def convert(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not (least <= value <= (most if most is not None else sys.float_info.max)):
            raise argparse.ArgumentTypeError(f"must be {allowed}, not {text[:SHOWN_CHARACTERS]}")
        return value

    return convert
