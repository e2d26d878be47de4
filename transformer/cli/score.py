"""`transformer score`: how likely a model finds given translations, a line a pair.

The score is that of `transformer translate --nbest`: log P(target | source) / length penalty. A text can be written
in many pieces; the likeliest that a beam search finds count, so that a translation of the search has the search's
score. With --fast it is the vocabulary's own pieces, one pass without a search. With --details a line is `score,
log P, target tokens`, between tabs; with --json an object. A pair that the model cannot make, without a source or
longer than its positions, scores -inf, in JSON null with the reason, and stderr counts them at the end.
"""

import argparse
import json
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.cli.arguments import Commands, add_model, add_search, check_model, search_settings
from transformer.cli.lines import STDIN, LineReader, chunks, progress, reading
from transformer.cli.output import complain, write_out
from transformer.data.cleaning import resolve_entities
from transformer.errors import DataError, ParamsError

if TYPE_CHECKING:
    from transformer.decoding.pairs import PairScore

NAMED = 3  # lines without a score that are named one by one


def add(commands: Commands) -> None:
    """Its options."""
    command = commands.add_parser(
        "score",
        help="score given translations, one pair a line",
        description="Score given translations: the line N of TARGET as the translation of the line N of SOURCE.",
        epilog="score: log probability / length penalty, as of translate --nbest; -inf: not a pair for this model",
    )
    command.set_defaults(run=score)
    option = command.add_argument
    option("source", type=Path, metavar="SOURCE", help="UTF-8 text, a sentence a line; -: stdin")
    option("target", type=Path, metavar="TARGET", help="its translations, a line each; -: stdin")
    add_model(command)
    add_search(command, "alpha", "batch_tokens")
    fast = "score the pieces in which the vocabulary writes TARGET, without a search: faster, for big corpora"
    option("--fast", action="store_true", help=fast)
    form = command.add_mutually_exclusive_group()
    form.add_argument("--details", action="store_true", help="score, log P and number of target tokens, between tabs")
    form.add_argument("--json", action="store_true", help="an object a line, with the log probability of each token")


def score(options: argparse.Namespace) -> None:
    """`transformer score`: pairs in, scores out, chunk by chunk.

    Raises:
        ParamsError: a setting is outside its range.
        DataError: an input or the model folder is missing or malformed, or one side has more lines.
    """
    if options.source == options.target == STDIN:
        raise ParamsError("SOURCE and TARGET can't both be stdin: name a file for one of them")
    check_model(options.model)
    with reading(options.source) as sources, reading(options.target) as targets:
        decoding = search_settings(options, "alpha", "batch_tokens")
        from transformer.decoding.pairs import PairScorer  # here, as torch takes a second to import
        from transformer.decoding.translator import Translator

        translator = Translator.load(options.model, options.device, decoding)
        scorer = PairScorer(translator, search=not options.fast)
        first_line, unscored, named = 1, 0, list[str]()
        with progress(options.source, "scoring") as advance:
            for lines in chunks(sources):
                others = _as_many(targets, len(lines))
                texts, translations = (list(map(resolve_entities, side)) for side in (lines[: len(others)], others))
                found = scorer.score(texts, translations, advance)
                write_out("".join(_output(*one, options) for one in zip(count(first_line), found, strict=False)))
                problems = [
                    f"line {line}: {one.problem}" for line, one in enumerate(found, first_line) if one.problem
                ]
                unscored, named = unscored + len(problems), (named + problems)[: NAMED + 1]
                first_line += len(found)
                if len(others) < len(lines) and not targets.take(1):
                    raise DataError(_unpaired(targets, sources, first_line))
            if targets.take(1):
                raise DataError(_unpaired(sources, targets, first_line))
    if unscored:
        more = "; …" if len(named) > NAMED else ""
        complain(f"{unscored} of {first_line - 1} pairs have no score: {'; '.join(named[:NAMED])}{more}")


def _as_many(reader: LineReader, most: int) -> list[str]:
    """The next lines, waiting for all of them; fewer at the end, or before one that can't be read."""
    found = reader.take(most)
    with suppress(DataError):  # the next `take` says it again
        while 0 < len(found) < most and (lines := reader.take(most - len(found))):
            found += lines
    return found


def _unpaired(shorter: LineReader, longer: LineReader, line: int) -> str:
    return f"{longer.name}, line {line} has no partner: {shorter.name} ends after line {line - 1}"


def _output(line: int, found: "PairScore", options: argparse.Namespace) -> str:
    if options.json:
        impossible = bool(found.problem)
        content = {
            "line": line,
            "score": None if impossible else found.score,
            "log_prob": None if impossible else found.log_prob,
            "tokens": found.tokens,
            "token_log_probs": found.token_log_probs,
        }
        return json.dumps({**content, "problem": found.problem} if impossible else content, ensure_ascii=False) + "\n"
    if options.details:
        return f"{found.score:.6f}\t{found.log_prob:.6f}\t{len(found.tokens)}\n"
    return f"{found.score:.6f}\n"
