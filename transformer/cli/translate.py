"""`transformer translate`: one translation a line; an empty line stays empty.

With --nbest, each line is `input line number ||| translation ||| score`, the line number from 1, best first; the
score is the model's log probability divided by the length penalty.
"""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from transformer.cli.arguments import Commands, add_model, check_model, within
from transformer.cli.lines import chunks, lines_of, progress
from transformer.data.cleaning import resolve_entities
from transformer.errors import ParamsError
from transformer.model.folder import read_decoding
from transformer.params import DecodingParams
from transformer.section import in_words

if TYPE_CHECKING:
    from transformer.decoding.translator import Translation


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
    add_model(command)
    option("--beam", type=within("beam", int), metavar="N", help=f"beam width, 1 to 64 {models_own}")
    option("--alpha", type=within("alpha", float), metavar="A", help=f"length penalty, >= 0 {models_own}")
    option("--nbest", type=within("beam", int), metavar="N", help="print the N best translations with their scores")
    option("--batch-tokens", type=within("batch_tokens", int), metavar="N", help=padded)


def translate(options: argparse.Namespace) -> None:
    """`transformer translate`: stdin or a file in, translations out, chunk by chunk.

    Raises:
        ParamsError: a setting is outside its range.
        DataError: the input or the model folder is missing or malformed.
    """
    check_model(options.model)
    asked = {name: getattr(options, name) for name in ("beam", "alpha", "batch_tokens")}
    decoding = _searching(options.model, {key: value for key, value in asked.items() if value is not None})
    if options.nbest is not None and options.nbest > decoding.beam:
        raise ParamsError(f"--nbest must be 1 to --beam = {decoding.beam}, not {options.nbest}")
    # Here, as torch takes seconds to import, for which --help should not wait.
    from transformer.decoding.translator import Translator

    translator = Translator.load(options.model, options.device, decoding=decoding)
    first_line = 1
    with progress(options.file) as advance:
        texts = map(resolve_entities, lines_of(options.file))
        for lines in chunks(texts, interactive=options.file is None and sys.stdin.isatty()):
            found = translator.translate_nbest(
                lines, options.nbest or 1, first_line=first_line, on_translated=advance
            )
            for number, translations in enumerate(found, first_line):
                sys.stdout.buffer.write(_output(number, translations, options.nbest is not None).encode())
            sys.stdout.buffer.flush()
            first_line += len(lines)


def _searching(model: Path, asked: dict[str, float]) -> DecodingParams:
    """The model's own settings of the search, with those that were asked for."""
    try:
        return DecodingParams.model_validate({**read_decoding(model).model_dump(), **asked})
    except ValidationError as error:
        raise ParamsError(f"--{in_words(error, str).replace('_', '-')}") from None


def _output(number: int, translations: "list[Translation]", with_scores: bool) -> str:
    if not with_scores:
        return translations[0].text + "\n"
    return "".join(f"{number} ||| {translation.text} ||| {translation.score:.4f}\n" for translation in translations)
