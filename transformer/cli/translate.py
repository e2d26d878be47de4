"""`transformer translate`: one translation a line; an empty line stays empty.

With --nbest, each line is `input line number ||| translation ||| score`, the line number from 1, best first; the
score is the model's log probability divided by the length penalty. With --json, each line is an object.
"""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from transformer.cli import output
from transformer.cli.arguments import DEFAULT_MODEL, Commands, Parser, add_model, check_model, number, within
from transformer.cli.lines import chunks, lines_of, progress
from transformer.data.cleaning import resolve_entities
from transformer.data.placeholders import KINDS
from transformer.errors import DataError, ParamsError
from transformer.model.folder import read_decoding
from transformer.params import DecodingParams
from transformer.section import in_words

if TYPE_CHECKING:
    from transformer.decoding.translation import Options, Translation

LARGEST_SEED = 2**63 - 1


def add(commands: Commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "translate",
        help="translate text, one sentence a line",
        description="Translate text, one sentence a line; an empty line stays empty.",
        epilog="n-best output: input line number (from 1) ||| translation ||| log probability / length penalty",
    )
    command.set_defaults(run=translate)
    option = command.add_argument
    models_own = "(default: the model's own)"
    padded = f"padded source tokens translated at a time {models_own}"
    option("file", nargs="?", type=Path, metavar="FILE", help="UTF-8 text (default: stdin)")
    add_model(command, several=True)
    option("--beam", type=within("beam", int), metavar="N", help=f"beam width, 1 to 64 {models_own}")
    option("--alpha", type=within("alpha", float), metavar="A", help=f"length penalty, >= 0 {models_own}")
    option("--nbest", type=within("beam", int), metavar="N", help="print up to N different translations, with scores")
    option("--batch-tokens", type=within("batch_tokens", int), metavar="N", help=padded)
    option("--json", action="store_true", help="print a JSON object a line: tokens, their scores, alignment")
    _add_demands(command)
    _add_sampling(command)


def _add_demands(command: Parser) -> None:
    option, prefix = command.add_argument, command.add_mutually_exclusive_group()
    prefix.add_argument("--prefix", metavar="TEXT", help="what every translation begins with")
    prefix.add_argument(
        "--prefixes", type=Path, metavar="FILE", help="what each translation begins with, a line each"
    )
    kinds = f"copy these exactly: {', '.join(KINDS)}, or all"
    option("--protect", type=_kinds, default=(), metavar="KIND,…", help=kinds)
    longer = "what is longer than the model reads is cut, or split into sentences (default: %(default)s)"
    option("--long-lines", choices=["cut", "split"], default="cut", help=longer)


def _add_sampling(command: Parser) -> None:
    option, seed = command.add_argument, number(int, 0, LARGEST_SEED)
    option("--sample", action="store_true", help="draw translations at random instead of searching the best")
    option("--seed", type=seed, metavar="N", help="of --sample; the same one draws the same (default: 1)")
    option("--temperature", type=number(float, 0.01, 100), metavar="T", help="of --sample (default: 1)")
    option(
        "--top-k", type=number(int, 1), metavar="K", help="of --sample: only the K likeliest tokens (default: all)"
    )


def translate(options: argparse.Namespace) -> None:
    """`transformer translate`: stdin or a file in, translations out, chunk by chunk.

    Raises:
        ParamsError: a setting is outside its range.
        DataError: the input, the prefixes or a model folder is missing or malformed.
    """
    models = options.model or [DEFAULT_MODEL]
    for model in models:
        check_model(model)
    asked = {name: getattr(options, name) for name in ("beam", "alpha", "batch_tokens")}
    decoding = _searching(models[0], {key: value for key, value in asked.items() if value is not None})
    if options.nbest is not None and options.nbest > decoding.beam and not options.sample:
        raise ParamsError(f"--nbest must be 1 to --beam = {decoding.beam}, not {options.nbest}")
    demands, prefixes = _demands(options), _Prefixes(options.prefix, options.prefixes)
    prefixes.check_count(options.file)
    # Here, as torch takes seconds to import, for which --help should not wait.
    from transformer.decoding.translator import Translator

    translator = Translator.load(models, options.device, decoding=decoding)
    write, first_line = _writer(options), 1
    with progress(options.file) as advance:
        for lines in chunks(lines_of(options.file), interactive=options.file is None and sys.stdin.isatty()):
            found = translator.translate_nbest(
                [resolve_entities(line) for line in lines], options.nbest or 1, options=demands,
                prefixes=prefixes.of(first_line, len(lines)), first_line=first_line, on_translated=advance,
            )  # fmt: skip
            for place, (line, translations) in enumerate(zip(lines, found, strict=True), first_line):
                sys.stdout.buffer.write(write(place, line, translations).encode())
            sys.stdout.buffer.flush()
            first_line += len(lines)
    prefixes.check_end(first_line - 1)


def _demands(options: argparse.Namespace) -> "Options":
    """What is asked beyond the best translation.

    Raises:
        ParamsError: options that exclude each other.
    """
    from transformer.decoding.sampling import Sampling
    from transformer.decoding.translation import Options

    asked = {name: getattr(options, name) for name in ("seed", "temperature", "top_k")}
    drawing = {name: value for name, value in asked.items() if value is not None}
    if drawing and not options.sample:
        raise ParamsError(f"--{next(iter(drawing)).replace('_', '-')} is for --sample, which is missing")
    if options.sample and options.beam is not None:
        raise ParamsError("--sample draws and does not search: leave out --beam")
    if options.sample and options.protect:
        raise ParamsError("what is drawn at random can't be protected: leave out --sample or --protect")
    sampling = Sampling(**drawing) if options.sample else None
    return Options(options.protect, options.long_lines, sampling, details=options.json)


class _Prefixes:
    """What the translations must begin with: the same text for all, or a line of a file for each."""

    def __init__(self, text: str | None, file: Path | None) -> None:
        self._text, self._file = text, file
        self._lines = list(lines_of(file)) if file else []

    def of(self, first_line: int, count: int) -> list[str]:
        """Those of some lines, the first of which has this number; empty where there are none."""
        if not self._file:
            return [self._text] * count if self._text else []
        found = self._lines[first_line - 1 : first_line - 1 + count]
        if len(found) < count:
            raise DataError(f"{self._file} has {len(self._lines)} lines, fewer than the text: one is needed for each")
        return found

    def check_count(self, text: Path | None) -> None:
        """DataError, before any work, if a file to be translated has not as many lines; a pipe can't be counted."""
        if self._file and text and text.is_file():
            self.check_end(sum(1 for _ in lines_of(text)))

    def check_end(self, lines: int) -> None:
        """DataError unless the text had as many lines."""
        if self._file and lines != len(self._lines):
            raise DataError(f"{self._file} has {len(self._lines)} lines and the text {lines}: one is needed for each")


def _kinds(text: str) -> list[str]:
    """The kinds that `--protect` names."""
    named = [name.strip() for name in text.split(",")]
    if unknown := [name for name in named if name not in (*KINDS, "all")]:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(KINDS)}, or all, not {unknown[0]!r}")
    return list(KINDS) if "all" in named else named


def _writer(options: argparse.Namespace) -> Callable[[int, str, "list[Translation]"], str]:
    if options.json:
        return partial(output.json_line, several=options.nbest is not None)
    return output.plain if options.nbest is None else output.nbest


def _searching(model: Path, asked: dict[str, float]) -> DecodingParams:
    """The model's own settings of the search, with those that were asked for."""
    try:
        return DecodingParams.model_validate({**read_decoding(model).model_dump(), **asked})
    except ValidationError as error:
        raise ParamsError(f"--{in_words(error, str).replace('_', '-')}") from None
