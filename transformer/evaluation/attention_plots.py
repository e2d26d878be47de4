"""Heat maps of attention weights: a row of panels for each layer, a column for each head (paper, appendix)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from torch import Tensor

from transformer.errors import ParamsError
from transformer.evaluation.attention import AttentionMaps
from transformer.files import atomic_path

HIDDEN, FRAME, INK, FAINT = "#e9ebee", "#a9afb8", "#222222", "#6b717a"
COLOURS = LinearSegmentedColormap.from_list("weights", ["#ffffff", "#cfe1f2", "#5b9bd0", "#2563a8", "#0b2545"])
COLOURS.set_bad(HIDDEN)
NORM = PowerNorm(gamma=0.5, vmin=0, vmax=1)  # by the square root, so that 0.05 is seen beside 1
TICKS = [0, 0.05, 0.2, 0.5, 1]
DPI = 110
LETTERS, PIECE = 8.5, 7.5  # sizes in points
# Lengths in inches.
CELL, SMALLEST_PANEL, GAP, NARROWEST = 0.165, 1.25, 0.1, 4.6
MARGIN, LINE, LETTER_WIDTH, HEADER = 0.15, 0.2, 0.072, 0.85
BAR, BAR_LABELS, LONGEST_BAR = 0.12, 0.5, 2.2


@dataclass(frozen=True)
class Picture:
    """Weights of shape (layers, heads, queries, keys) and the pieces that queries and keys stand for."""

    title: str
    caption: str
    weights: Tensor
    queries: list[str]
    keys: list[str]
    causal: bool = False  # a query has its own key and those before it only


def draw_attention(
    folder: Path, maps: AttentionMaps, layers: Sequence[int] = (), heads: Sequence[int] = ()
) -> list[Path]:
    """Write `encoder.png`, `decoder.png` and `cross.png` into `folder`; equal weights give equal bytes.

    `layers` and `heads` choose by number from 1; empty means all.

    Raises:
        ParamsError: a stack of the model has no such layer, or a layer no such head.
    """
    writing = "Row: the piece about to be written. Columns: the pieces"
    pictures = {
        "encoder": Picture(
            "Encoder self-attention", "Row: a piece of the source. Columns: the pieces it looks at.",
            maps.encoder, maps.source, maps.source,
        ),
        "decoder": Picture(
            "Decoder self-attention", f"{writing} written so far.", maps.decoder, maps.written, maps.read, causal=True
        ),
        "cross": Picture(
            "Decoder attention to the source", f"{writing} of the source.", maps.cross, maps.written, maps.source
        ),
    }  # fmt: skip
    paths = {name: folder / f"{name}.png" for name in pictures}
    for name, picture in pictures.items():
        figure = _figure(picture, _chosen("layer", layers, len(picture.weights)), _chosen("head", heads, picture.weights.size(1)))
        with atomic_path(paths[name]) as temporary:
            figure.savefig(temporary, format="png")
    return list(paths.values())


def _chosen(what: str, numbers: Sequence[int], count: int) -> list[int]:
    if wrong := [number for number in numbers if not 1 <= number <= count]:
        raise ParamsError(f"there is no {what} {wrong[0]}: the model has {count}")
    return list(numbers) or list(range(1, count + 1))


def _figure(picture: Picture, layers: list[int], heads: list[int]) -> Figure:
    """All panels at one scale; their places are computed, as an automatic layout takes seconds for 48 panels."""
    cell = max(CELL, SMALLEST_PANEL / max(len(picture.keys), len(picture.queries)))
    panel_width, panel_height = cell * len(picture.keys), cell * len(picture.queries)
    left = MARGIN + LINE + LETTER_WIDTH * max(map(len, picture.queries))
    bottom = MARGIN + LETTER_WIDTH * max(map(len, picture.keys))
    panels_width = len(heads) * (panel_width + GAP) - GAP
    panels_height = len(layers) * (panel_height + GAP) - GAP
    width = max(NARROWEST, left + panels_width + 2 * GAP + BAR + BAR_LABELS)
    height = bottom + panels_height + HEADER
    figure = Figure(figsize=(width, height), dpi=DPI)

    def axes_at(x: float, y: float, across: float, up: float) -> Axes:
        axes: Axes = figure.add_axes((x / width, y / height, across / width, up / height))
        return axes

    for row, layer in enumerate(reversed(layers)):  # from below
        for column, head in enumerate(heads):
            x, y = left + column * (panel_width + GAP), bottom + row * (panel_height + GAP)
            axes = axes_at(x, y, panel_width, panel_height)
            _draw_weights(axes, picture.weights[layer - 1, head - 1], picture.causal)
            if layer == layers[0]:
                axes.set_title(f"head {head}", fontsize=LETTERS, color=FAINT, pad=4)
            if column == 0:
                axes.set_ylabel(f"layer {layer}", fontsize=LETTERS, color=FAINT)
                _name(axes.yaxis, picture.queries)
            if row == 0:
                _name(axes.xaxis, picture.keys, rotation=90)
    figure.text(0.12 / width, 1 - 0.12 / height, picture.title, fontsize=12, fontweight="bold", va="top")
    figure.text(0.12 / width, 1 - 0.37 / height, picture.caption, fontsize=LETTERS, color=FAINT, va="top")
    length = min(panels_height, LONGEST_BAR)
    _draw_scale(figure, axes_at(left + panels_width + 2 * GAP, bottom + panels_height - length, BAR, length))
    return figure


def _draw_weights(axes: Axes, weights: Tensor, causal: bool) -> None:
    hidden = np.triu(np.full(weights.shape, causal), k=1)
    shown = np.ma.masked_array(weights.numpy(), hidden)
    axes.imshow(shown, cmap=COLOURS, norm=NORM, interpolation="nearest", aspect="auto")
    axes.set_xticks([])
    axes.set_yticks([])
    _frame(axes)


def _draw_scale(figure: Figure, axes: Axes) -> None:
    scale = figure.colorbar(ScalarMappable(NORM, COLOURS), cax=axes, ticks=TICKS, format="%g")
    scale.ax.tick_params(labelsize=PIECE, length=0, labelcolor=FAINT)
    scale.ax.set_title("weight", fontsize=PIECE, color=FAINT, loc="left", pad=4)
    scale.outline.set_edgecolor(FRAME)
    scale.outline.set_linewidth(0.6)


def _frame(axes: Axes) -> None:
    axes.spines[:].set_color(FRAME)
    axes.spines[:].set_linewidth(0.6)


def _name(axis: Axis, pieces: list[str], rotation: int = 0) -> None:
    """Write the pieces along an axis; `$` is a character here, not the begin of a formula."""
    labels = [readable(piece) for piece in pieces]
    axis.set_ticks(range(len(pieces)), labels=labels, fontsize=PIECE, color=INK, rotation=rotation, parse_math=False)
    axis.set_tick_params(length=0, pad=3)


def readable(piece: str) -> str:
    """A piece that begins a word as its letters, any other with a mark of joining before them."""
    if piece.startswith("▁"):
        return piece[1:] or "▁"
    return piece if piece.startswith("<") and piece.endswith(">") else f"·{piece}"
