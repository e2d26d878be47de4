"""What the commands' options share: one-line errors, the limits of the settings, where the model is."""

import argparse
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeAlias

from transformer.errors import DataError, ParamsError
from transformer.params import DecodingParams

DEFAULT_MODEL = Path("models/averaged")


class Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise ParamsError(f"{message} (see {self.prog} --help)")


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


def check_model(folder: Path) -> None:
    """DataError unless there is a folder."""
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: run `make repro`, or name a model folder with --model")


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
            raise argparse.ArgumentTypeError(f"must be {allowed}, not {text}")
        return value

    return convert
