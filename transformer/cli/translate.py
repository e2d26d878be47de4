"""`transformer translate`: one translation a line; an empty line stays empty.

With --nbest, each line is `input line number ||| translation ||| score`, the line number from 1, best first; the
score is the model's log probability divided by the length penalty.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.cli.arguments import Commands, add_model, check_model, search_settings, within
from transformer.cli.lines import chunks, progress, reading
from transformer.cli.output import write_out
from transformer.data.cleaning import resolve_entities
from transformer.errors import ParamsError

if TYPE_CHECKING:
    from transformer.decoding.translation import Translation


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
    option("file", nargs="?", type=Path, metavar="FILE", help="UTF-8 text; -, the default: stdin")
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
    decoding = search_settings(options, "beam", "alpha", "batch_tokens")
    if options.nbest is not None and options.nbest > decoding.beam:
        raise ParamsError(f"--nbest must be 1 to --beam = {decoding.beam}, not {options.nbest}")
    with reading(options.file) as reader, progress(options.file, "translating") as advance:
        # Here, as torch takes seconds to import, for which --help should not wait.
        from transformer.decoding.translator import Translator

        translator = Translator.load(options.model, options.device, decoding=decoding)
        first_line = 1
        for lines in chunks(reader):
            texts = list(map(resolve_entities, lines))
            found = translator.translate_nbest(
                texts, options.nbest or 1, first_line=first_line, on_translated=advance
            )
            outputs = (_output(*one, options.nbest is not None) for one in enumerate(found, first_line))
            write_out("".join(outputs))
            first_line += len(lines)


def _output(number: int, translations: "list[Translation]", with_scores: bool) -> str:
    if not with_scores:
        return translations[0].text + "\n"
    return "".join(f"{number} ||| {translation.text} ||| {translation.score:.4f}\n" for translation in translations)
