"""The rows of Table 3 (paper, section 6.2), as changes to a base model of any size."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from transformer.errors import ParamsError
from transformer.params import Params, params_from

BASE = "base"


@dataclass(frozen=True)
class PaperResult:
    """Parameters in millions, and perplexity per piece and BLEU on newstest2013, en-de; some cells are empty."""

    millions: float | None
    perplexity: float | None
    bleu: float | None


@dataclass(frozen=True)
class Row:
    """One line of the table: the factors by which it changes params of the base, and those it replaces."""

    letter: str
    what: str  # as the paper writes it, for its own base of 8 heads, d_k 64, 6 layers, d_model 512, d_ff 2048
    paper: PaperResult
    factors: dict[str, Fraction | int] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """A row at the size of one preset: the experiment's name, its complete params, and what differs from the base."""

    name: str
    row: Row
    params: dict[str, Any]
    changes: dict[str, Any]  # by dotted key


def _row(letter: str, what: str, paper: tuple[float | None, ...], **factors: Fraction | int) -> Row:
    keys = {
        "layers": ("model.encoder_layers", "model.decoder_layers"),
        "label_smoothing": ("training.label_smoothing",),
    }
    return Row(
        letter, what, PaperResult(*paper),
        {key: factor for name, factor in factors.items() for key in keys.get(name, (f"model.{name}",))},
    )  # fmt: skip


HALF, THIRD, QUARTER = Fraction(1, 2), Fraction(1, 3), Fraction(1, 4)
TABLE_3 = [
    Row(BASE, "base", PaperResult(65, 4.92, 25.8)),
    _row("A", "h = 1", (None, 5.29, 24.9), heads=Fraction(1, 8)),
    _row("A", "h = 4", (None, 5.00, 25.5), heads=HALF),
    _row("A", "h = 16", (None, 4.91, 25.8), heads=2),
    _row("A", "h = 32", (None, 5.01, 25.4), heads=4),
    _row("B", "d_k = 16", (58, 5.16, 25.1), key_size=QUARTER),
    _row("B", "d_k = 32", (60, 5.01, 25.4), key_size=HALF),
    _row("C", "N = 2", (36, 6.11, 23.7), layers=THIRD),
    _row("C", "N = 4", (50, 5.19, 25.3), layers=2 * THIRD),
    _row("C", "N = 8", (80, 4.88, 25.5), layers=4 * THIRD),
    _row("C", "d_model = 256", (28, 5.75, 24.5), d_model=HALF),
    _row("C", "d_model = 1024", (168, 4.66, 26.0), d_model=2),
    _row("C", "d_ff = 1024", (53, 5.12, 25.4), d_ff=HALF),
    _row("C", "d_ff = 4096", (90, 4.75, 26.2), d_ff=2),
    _row("D", "dropout 0.0", (None, 5.77, 24.6), dropout=0),
    _row("D", "dropout 0.2", (None, 4.95, 25.5), dropout=2),
    _row("D", "label smoothing 0.0", (None, 4.67, 25.3), label_smoothing=0),
    _row("D", "label smoothing 0.2", (None, 5.47, 25.7), label_smoothing=2),
    Row("E", "learned positions", PaperResult(None, 4.92, 25.7), values={"model.positions": "learned"}),
]


def ablations(content: dict[str, Any], preset: str) -> tuple[list[Ablation], list[str]]:
    """Every row at the size of the preset, and a line for each row that is left out there.

    `content` is the preset's params. Sizes are rounded to whole numbers, at least 1; heads of d_k = d_v follow
    their number. A row is left out when it equals another, or when no such model exists.

    Raises:
        ParamsError: the preset itself is wrong.
    """
    base = params_from(content, preset)
    made: list[Ablation] = []
    left_out = []
    for row in TABLE_3:
        changes = dict(_changes(row, base))
        varied = _changed(content, changes)
        name = "-".join([preset, row.letter, *_words(changes)])
        try:
            params_from(varied, name)
        except ParamsError as error:
            left_out.append(f"{row.letter}, {row.what}: {error}")
            continue
        if same := next((other for other in made if other.params == varied), None):
            left_out.append(f"{row.letter}, {row.what}: at this size the same as {same.name}")
            continue
        made.append(Ablation(name, row, varied, changes))
    return made, left_out


def _changes(row: Row, base: Params) -> Iterator[tuple[str, Any]]:
    yield from row.values.items()
    for key, factor in row.factors.items():
        section, name = key.split(".")
        value = getattr(getattr(base, section), name)
        if value is None:  # model.key_size
            value = base.model.d_model // base.model.heads
        changed = value * factor
        yield key, max(1, round(changed)) if isinstance(value, int) else round(float(changed), 4)


def _changed(content: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    varied = {section: dict(keys) for section, keys in content.items()}
    for key, value in changes.items():
        section, name = key.split(".")
        varied[section][name] = value
    return varied


def _words(changes: dict[str, Any]) -> Iterator[str]:
    """For the name of an experiment: heads-16, layers-2, positions-learned; one for both stacks' layers."""
    for key, value in changes.items():
        name = key.split(".")[1].replace("_", "-")
        if name != "decoder-layers":
            yield f"{name.removeprefix('encoder-')}-{value}"
