"""The presets by name, as options of the benchmarks take them."""

import argparse
from pathlib import Path

from transformer.params import Params, load_params

PRESETS = Path(__file__).parents[1] / "presets"


def add_preset(parser: argparse.ArgumentParser, default: str | None = None) -> None:
    """The option `--preset`, which has to be given where there is no default."""
    names = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    parser.add_argument("--preset", choices=names, required=default is None, default=default)


def preset_params(name: str) -> Params:
    """The params of a preset."""
    return load_params(PRESETS / f"{name}.yaml")
