"""`transformer translate`: one translation a line; an empty line stays empty.

With --nbest, each line is `input line number ||| translation ||| score`, the line number from 1, best first; the
score is the model's log probability divided by the length penalty. With --json, each line is an object.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.cli import formats
from transformer.cli.arguments import (
    DEFAULT_MODEL,
    Commands,
    Parser,
    add_model,
    add_search,
    check_model,
    number,
    search_settings,
    within,
)
from transformer.cli.lines import chunks, progress, reading
from transformer.cli.output import write_out
from transformer.cli.prefixes import Prefixes
from transformer.data.cleaning import resolve_entities
from transformer.data.placeholders import KINDS
from transformer.errors import ParamsError

if TYPE_CHECKING:
    from transformer.decoding.translation import Options, Translation

LARGEST_SEED = 2**63 - 1
A_SENTENCE = "FILE holds a sentence a line; to give a sentence itself: echo 'A sentence.' | transformer translate"


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
    option("file", nargs="?", type=Path, metavar="FILE", help="UTF-8 text; -, the default: stdin")
    add_model(command, several=True)
    engine = "what searches; ctranslate2 takes an export, as MODEL or beside it (default: %(default)s)"
    option("--engine", choices=["torch", "ctranslate2"], default="torch", help=engine)
    add_search(command, "beam", "alpha", "batch_tokens")
    option("--nbest", type=within("beam", int), metavar="N", help="print up to N different translations, with scores")
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
    options.model = options.model or [DEFAULT_MODEL]
    for model in options.model:
        check_model(model)
    if options.precision and options.engine != "torch":
        raise ParamsError("--precision is of the engine torch: an export has the one of its --quantization")
    decoding = search_settings(options, "beam", "alpha", "batch_tokens")
    if options.nbest is not None and options.nbest > decoding.beam and not options.sample:
        raise ParamsError(f"--nbest must be 1 to --beam = {decoding.beam}, not {options.nbest}")
    with reading(options.file, A_SENTENCE) as reader:
        prefixes = Prefixes.of_options(options)
        # Here, as torch takes a second to import, for which --help should not wait.
        from transformer.decoding.engine import load_translator

        demands, write = _demands(options), _writer(options)
        translator = load_translator(options.model, options.engine, options.device, decoding)
        translator.check(demands, [str(options.prefix or options.prefixes or "")])
        first_line = 1
        with progress(options.file, "translating") as advance:
            for lines in chunks(reader):
                found = translator.translate_nbest(
                    list(map(resolve_entities, lines)),
                    options.nbest or 1,
                    options=demands,
                    prefixes=prefixes.next(len(lines)),
                    first_line=first_line,
                    on_translated=advance,
                )
                outputs = (write(first_line + place, lines[place], one) for place, one in enumerate(found))
                write_out("".join(outputs))
                first_line += len(lines)
    prefixes.check_end()


def _demands(options: argparse.Namespace) -> "Options":
    """What is asked beyond the best translation.

    Raises:
        ParamsError: options that exclude each other.
    """
    from transformer.decoding.translation import Options, Sampling

    asked = {name: getattr(options, name) for name in ("seed", "temperature", "top_k")}
    drawing = {name: value for name, value in asked.items() if value is not None}
    if drawing and not options.sample:
        raise ParamsError(f"--{next(iter(drawing)).replace('_', '-')} is for --sample, which is missing")
    if options.sample and options.beam is not None:
        raise ParamsError("--sample draws and does not search: leave out --beam")
    sampling = Sampling(**drawing) if options.sample else None
    return Options(options.protect, options.long_lines, sampling, details=options.json)


def _kinds(text: str) -> list[str]:
    """The kinds that `--protect` names."""
    named = [name.strip() for name in text.split(",")]
    if unknown := [name for name in named if name not in (*KINDS, "all")]:
        raise argparse.ArgumentTypeError(f"must be of {', '.join(KINDS)}, or all, not {unknown[0]!r}")
    return list(KINDS) if "all" in named else named


def _writer(options: argparse.Namespace) -> Callable[[int, str, "list[Translation]"], str]:
    if options.json:
        return partial(formats.json_line, several=options.nbest is not None)
    return formats.plain if options.nbest is None else formats.nbest
