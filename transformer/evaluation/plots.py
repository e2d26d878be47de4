"""Pictures of a training and its result, and the table that `dvc plots` draws BLEU by length from."""

import csv
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from transformer.errors import DataError
from transformer.evaluation.analysis import GroupScores
from transformer.files import atomic_path, write_text

Columns = dict[str, list[float | None]]

BLUE, ORANGE, GREY = "#2563a8", "#d9730d", "#8a8f98"


def draw_scores(plots: Path, groups: dict[str, GroupScores], test: str) -> None:
    """Write `bleu_by_length.csv` and `bleu_by_length.png` for the headline test set."""
    rows = [f"{bucket},{scores.bleu:.2f},{scores.sentences}\n" for bucket, scores in groups.items()]
    write_text(plots / "bleu_by_length.csv", "".join(["words,bleu,sentences\n", *rows]))

    axes = _axes(f"BLEU by source length, {test}", "source length (words)", "BLEU (%)")
    places = range(len(groups))  # numbers, as matplotlib logs a message about names
    bars = axes.bar(places, [scores.bleu for scores in groups.values()], color=BLUE, width=0.7)
    axes.set_xticks(places, labels=list(groups))
    counts = [f"{scores.bleu:.1f}\n{scores.sentences} sent." for scores in groups.values()]
    axes.bar_label(bars, counts, padding=3, fontsize=9, color="#333333")
    axes.margins(y=0.18)
    axes.grid(False, axis="x")
    _save(axes, plots / "bleu_by_length.png")


def draw_curves(plots: Path, curves: Path) -> None:
    """Write `loss.png`, `learning_rate.png` and, where it was measured, `bleu.png` from the train stage's `curves`.

    Raises:
        DataError: a table is missing or malformed.
    """
    training = read_curve(curves / "training.csv")
    validation = read_curve(curves / "validation.csv")

    axes = _axes("Cross-entropy", "update", "loss (nats per target token)")
    axes.plot(*_points(training, "loss"), color=GREY, linewidth=1, label="training (label smoothing included)")
    axes.plot(*_points(validation, "loss"), color=ORANGE, marker="o", markersize=4, label="validation")
    axes.legend(frameon=False)
    _save(axes, plots / "loss.png")

    axes = _axes("Learning rate", "update", "learning rate")
    axes.plot(*_points(training, "learning_rate"), color=BLUE)
    axes.set_ylim(bottom=0)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _save(axes, plots / "learning_rate.png")

    if "bleu" in validation:
        axes = _axes("Greedy BLEU on the validation split", "update", "BLEU (%)")
        axes.plot(*_points(validation, "bleu"), color=BLUE, marker="o", markersize=4)
        axes.set_ylim(bottom=0)
        _save(axes, plots / "bleu.png")


def read_curve(path: Path) -> Columns:
    """The columns of a table of numbers; an empty cell, a value not measured, is None.

    Raises:
        DataError: the table is missing or a cell is not a number.
    """
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the train stage first (dvc repro train)") from None
    columns: Columns = {}
    for number, row in enumerate(rows, 2):
        for name, cell in row.items():
            try:
                columns.setdefault(name, []).append(float(cell) if cell else None)
            except ValueError:
                raise DataError(f"{path}, line {number}: {name} = {cell!r} is not a number") from None
    return columns


def _points(curve: Columns, name: str) -> tuple[list[float], list[float]]:
    pairs = zip(curve["update"], curve[name], strict=True)
    measured = [(update, value) for update, value in pairs if update is not None and value is not None]
    return [update for update, _ in measured], [value for _, value in measured]


def _axes(title: str, x_label: str, y_label: str) -> Axes:
    """An empty chart; a Figure needs neither a display nor pyplot's global state."""
    axes: Axes = Figure(figsize=(7, 4.2), dpi=130, layout="constrained").add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, color="#e4e6ea")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _save(axes: Axes, path: Path) -> None:
    figure = axes.get_figure(root=True)
    assert figure is not None
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")
