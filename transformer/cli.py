"""The `transformer` command.

    transformer translate [FILE] [--model FOLDER] [--beam N] [--alpha A] [--nbest N]
    transformer attention "SENTENCE" --out FOLDER [--target "TRANSLATION"] [--layer N] [--head N]

`translate` gives one translation a line; an empty line stays empty. With --nbest, each line is
`input line number ||| translation ||| score`, the line number from 1, best first; the score is the model's log
probability divided by the length penalty. `attention` draws what each head of each layer looks at.
"""

import argparse
import logging
import math
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

from pydantic import ValidationError

from transformer.data.cleaning import resolve_entities
from transformer.errors import DataError, ExitCode, ParamsError, UserError, trouble_of_the_machine
from transformer.model.folder import read_decoding
from transformer.params import DecodingParams
from transformer.progress import ignore_progress, sentence_progress
from transformer.section import in_words

if TYPE_CHECKING:
    from transformer.decoding.translator import Translation

DEFAULT_MODEL = Path("models/averaged")
FIRST_CHUNK, LARGEST_CHUNK = 8, 4096  # lines; chunks double in length, so that output starts early


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status, after a one-line message on stderr where it is not zero."""
    logging.basicConfig(level=logging.WARNING, format="transformer: %(message)s", stream=sys.stderr)
    try:
        options = _parser().parse_args(arguments)
        options.run(options)
    except UserError as error:
        print(f"transformer: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader has closed the pipe. Python flushes stdout at exit and would complain, so it goes nowhere now.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"transformer: {trouble_of_the_machine(error) or error}", file=sys.stderr)
        return ExitCode.FAILURE
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return ExitCode.OK


def translate(options: argparse.Namespace) -> None:
    """`transformer translate`: stdin or a file in, translations out, chunk by chunk.

    Raises:
        ParamsError: a setting is outside its range.
        DataError: the input or the model folder is missing or malformed.
    """
    _check_model(options.model)
    asked = {name: getattr(options, name) for name in ("beam", "alpha", "batch_tokens")}
    decoding = _searching(options.model, {key: value for key, value in asked.items() if value is not None})
    if options.nbest is not None and options.nbest > decoding.beam:
        raise ParamsError(f"--nbest must be 1 to --beam = {decoding.beam}, not {options.nbest}")
    # Here, as torch takes seconds to import, for which --help should not wait.
    from transformer.decoding.translator import Translator

    translator = Translator.load(options.model, options.device, decoding=decoding)
    first_line = 1
    with _progress(options.file) as advance:
        texts = map(resolve_entities, _lines(options.file))
        for lines in chunks(texts, interactive=options.file is None and sys.stdin.isatty()):
            found = translator.translate_nbest(
                lines, options.nbest or 1, first_line=first_line, on_translated=advance
            )
            for number, translations in enumerate(found, first_line):
                sys.stdout.buffer.write(_output(number, translations, options.nbest is not None).encode())
            sys.stdout.buffer.flush()
            first_line += len(lines)


def attention(options: argparse.Namespace) -> None:
    """`transformer attention`: heat maps of a sentence and its translation, by default the model's own.

    Raises:
        ParamsError: the model has no such layer or head.
        DataError: a sentence is empty or too long, or the model folder is missing or malformed.
    """
    _check_model(options.model)
    from transformer.decoding.translator import Translator
    from transformer.evaluation.attention import attention_maps
    from transformer.evaluation.attention_plots import draw_attention

    translator = Translator.load(options.model, options.device)
    sentence = resolve_entities(options.sentence)
    if options.target is None:
        target = translator.translate([sentence])[0]
        print(target)
    else:
        target = resolve_entities(options.target)
    maps = attention_maps(translator.model, translator.vocabulary, sentence, target)
    for path in draw_attention(options.out, maps, options.layer, options.head):
        print(path)


def _searching(model: Path, asked: dict[str, float]) -> DecodingParams:
    """The model's own settings of the search, with those that were asked for."""
    try:
        return DecodingParams.model_validate({**read_decoding(model).model_dump(), **asked})
    except ValidationError as error:
        raise ParamsError(f"--{in_words(error, str).replace('_', '-')}") from None


def _check_model(folder: Path) -> None:
    if not folder.is_dir():
        raise DataError(f"{folder} is missing: run `make repro`, or name a model folder with --model")


def _progress(file: Path | None) -> AbstractContextManager[Callable[[int], None]]:
    """A bar where a file is translated to another file or a pipe; the lines of stdin can't be counted beforehand."""
    if file is None or not file.is_file() or sys.stdout.isatty():
        return nullcontext(ignore_progress)
    return sentence_progress("translating", sum(1 for _ in _lines(file)))


def chunks(lines: Iterator[str], interactive: bool) -> Iterator[list[str]]:
    """Lines that are translated and written together: one at a time for a person, else more and more."""
    size, chunk = 1 if interactive else FIRST_CHUNK, list[str]()
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            size, chunk = size if interactive else min(2 * size, LARGEST_CHUNK), []
    if chunk:
        yield chunk


def _lines(file: Path | None) -> Iterator[str]:
    if file is None:
        yield from decoded(sys.stdin.buffer, "stdin")
        return
    try:
        with file.open("rb") as stream:
            yield from decoded(stream, str(file))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None


def decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of UTF-8 text, ended by line feeds only, as wc, sed and the like count them.

    Raises:
        DataError: a line is not UTF-8; names it.
    """
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8; convert the text first (iconv -t utf-8)"
            ) from None


def _output(number: int, translations: "list[Translation]", with_scores: bool) -> str:
    if not with_scores:
        return translations[0].text + "\n"
    return "".join(f"{number} ||| {translation.text} ||| {translation.score:.4f}\n" for translation in translations)


class _Parser(argparse.ArgumentParser):
    """Reports a wrong command line in one line."""

    def error(self, message: str) -> NoReturn:
        raise ParamsError(f"{message} (see {self.prog} --help)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="transformer", description="Translate with a trained Transformer.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_translate(commands)
    _add_attention(commands)
    return parser


def _add_translate(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = commands.add_parser(
        "translate",
        help="translate text, one sentence a line",
        description="Translate text, one sentence a line; an empty line stays empty.",
        epilog="n-best output: input line number (from 1) ||| translation ||| log probability / length penalty",
    )
    command.set_defaults(run=translate)
    add = command.add_argument
    models_own = "(default: the model's own)"
    padded = f"padded source tokens translated at a time {models_own}"
    add("file", nargs="?", type=Path, metavar="FILE", help="UTF-8 text (default: stdin)")
    _add_model(command)
    add("--beam", type=_within("beam", int), metavar="N", help=f"beam width, 1 to 64 {models_own}")
    add("--alpha", type=_within("alpha", float), metavar="A", help=f"length penalty, >= 0 {models_own}")
    add("--nbest", type=_within("beam", int), metavar="N", help="print the N best translations with their scores")
    add("--batch-tokens", type=_within("batch_tokens", int), metavar="N", help=padded)


def _add_attention(commands: "argparse._SubParsersAction[_Parser]") -> None:
    command = commands.add_parser(
        "attention",
        help="draw what each head of each layer attends to",
        description="Draw what each head of each layer attends to: encoder.png, decoder.png and cross.png in FOLDER.",
    )
    command.set_defaults(run=attention)
    add = command.add_argument
    add("sentence", metavar="SENTENCE", help="in the model's source language")
    add("--out", type=Path, required=True, metavar="FOLDER", help="where the pictures are written")
    add("--target", metavar="TRANSLATION", help="its translation (default: the model's own, which is printed)")
    add("--layer", type=int, action="append", default=[], metavar="N", help="a layer, from 1 (default: all)")
    add("--head", type=int, action="append", default=[], metavar="N", help="a head, from 1 (default: all)")
    _add_model(command)


def _add_model(command: argparse.ArgumentParser) -> None:
    add, shown = command.add_argument, "(default: %(default)s)"
    add("--model", type=Path, default=DEFAULT_MODEL, metavar="FOLDER", help=f"model folder {shown}")
    add("--device", choices=["auto", "cuda", "mps", "cpu"], default="auto", help=shown)


def _within(field: str, kind: type[int] | type[float]) -> Callable[[str], float]:
    """A converter that checks the limits of a decoding parameter and names them in its error."""
    limits = DecodingParams.model_fields[field].metadata
    least = next(limit.ge for limit in limits if hasattr(limit, "ge"))
    most = next((limit.le for limit in limits if hasattr(limit, "le")), None)
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
