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
from transformer.evaluation.attention import AttentionMaps, attention_maps, most_pieces
from transformer.evaluation.fonts import fonts_for
from transformer.files import atomic_path
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import Vocabulary

HIDDEN, GRID, FRAME, FAINT, INK = "#e6e8ec", "#eef0f3", "#a9afb8", "#6b717a", "#222222"
SHADES = ["#ffffff", "#cfe1f2", "#5b9bd0", "#2563a8", "#0b2545"]
COLOURS = LinearSegmentedColormap.from_list("weights", SHADES).with_extremes(bad=HIDDEN)
NORM = PowerNorm(gamma=0.5, vmin=0, vmax=1)  # square root, so that 0.05 is visible beside 1
TICKS = [0, 0.05, 0.2, 0.5, 1]
DPI = 110
BEST_PIECES = 12  # enough to show how heads differ, few enough to be read at a glance
LETTERS, PIECE = 8.5, 7.5  # sizes in points
# Lengths in inches.
CELL, SMALLEST_PANEL, GAP = 0.165, 1.25, 0.1
BAR, LONGEST_BAR, MARGIN = 0.12, 2.2, 0.15


@dataclass(frozen=True)
class Picture:
    """Weights of shape (layers, heads, queries, keys) and the pieces that queries and keys stand for."""

    title: str
    caption: str
    weights: Tensor
    queries: list[str]
    keys: list[str]
    causal: bool = False  # a query has only its own key and those before it


def draw_examples(
    folder: Path, model: Transformer, vocabulary: Vocabulary, sources: list[str], targets: list[str], count: int
) -> None:
    """Write the pictures of `count` sentence pairs into folders named by their numbers, counted from 1.

    Those whose sides are closest to BEST_PIECES pieces are chosen, the first of several; never empty or very long
    ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sides = zip(vocabulary.encode_batch(sources), vocabulary.encode_batch(targets), strict=True)
    pieces = [(len(source), len(target)) for source, target in sides]
    fit = [place for place, pair in enumerate(pieces) if min(pair) > 0 and max(pair) <= most_pieces(model)]
    for place in sorted(fit, key=lambda place: sum(abs(side - BEST_PIECES) for side in pieces[place]))[:count]:
        maps = attention_maps(model, vocabulary, sources[place], targets[place])
        draw_attention(folder / str(place + 1), maps)


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
    with fonts_for([*maps.source, *maps.written, *maps.read]):
        for name, picture in pictures.items():
            chosen_layers = _chosen("layer", layers, len(picture.weights))
            figure = _figure(picture, chosen_layers, _chosen("head", heads, picture.weights.size(1)))
            with atomic_path(paths[name]) as temporary:
                figure.savefig(temporary, format="png", bbox_inches="tight", pad_inches=MARGIN)
    return list(paths.values())


def _chosen(what: str, numbers: Sequence[int], count: int) -> list[int]:
    if wrong := [number for number in numbers if not 1 <= number <= count]:
        raise ParamsError(f"there is no {what} {wrong[0]}: the model has {count}")
    return list(numbers) or list(range(1, count + 1))


def _figure(picture: Picture, layers: list[int], heads: list[int]) -> Figure:
    """All panels at one scale; positions are computed here, as automatic layout takes seconds for 48 panels."""
    cell = max(CELL, SMALLEST_PANEL / max(len(picture.keys), len(picture.queries)))
    panel_width, panel_height = cell * len(picture.keys), cell * len(picture.queries)
    width, height = len(heads) * (panel_width + GAP), len(layers) * (panel_height + GAP)
    figure = Figure(figsize=(width, height), dpi=DPI)

    def axes_at(x: float, y: float, across: float, up: float) -> Axes:
        axes: Axes = figure.add_axes((x / width, y / height, across / width, up / height))
        return axes

    for row, layer in enumerate(reversed(layers)):  # from below
        for column, head in enumerate(heads):
            axes = axes_at(column * (panel_width + GAP), row * (panel_height + GAP), panel_width, panel_height)
            _draw_weights(axes, picture.weights[layer - 1, head - 1], picture.causal)
            if layer == layers[0]:
                axes.set_title(f"head {head}", fontsize=LETTERS, color=FAINT, pad=4)
            if column == 0:
                axes.set_ylabel(f"layer {layer}", fontsize=LETTERS, color=FAINT)
                _name(axes.yaxis, picture.queries)
            if row == 0:
                _name(axes.xaxis, picture.keys, rotation=90)
    figure.text(0, 1 + 0.56 / height, picture.title, fontsize=12, fontweight="bold", color=INK)
    figure.text(0, 1 + 0.34 / height, picture.caption, fontsize=LETTERS, color=FAINT)
    length = min(height - GAP, LONGEST_BAR)
    _draw_scale(figure, axes_at(width + GAP, height - GAP - length, BAR, length))
    return figure


def _draw_weights(axes: Axes, weights: Tensor, causal: bool) -> None:
    hidden = np.triu(np.full(weights.shape, causal), k=1)
    shown = np.ma.masked_array(weights.numpy(), hidden)
    axes.imshow(shown, cmap=COLOURS, norm=NORM, interpolation="nearest", aspect="auto")
    down, across = (np.arange(0.5, count - 1) for count in weights.shape)
    axes.hlines(down, *axes.get_xlim(), color=GRID, linewidth=0.4)
    axes.vlines(across, *axes.get_ylim(), color=GRID, linewidth=0.4)
    axes.set_xticks([])
    axes.set_yticks([])
    _frame(axes)


def _draw_scale(figure: Figure, axes: Axes) -> None:
    scale = figure.colorbar(ScalarMappable(NORM, COLOURS), cax=axes, ticks=TICKS, format="%g")
    scale.ax.tick_params(labelsize=PIECE, length=0, labelcolor=FAINT)
    scale.ax.set_title("weight", fontsize=PIECE, color=FAINT, loc="left", pad=7)
    scale.outline.set_edgecolor(FRAME)
    scale.outline.set_linewidth(0.6)


def _frame(axes: Axes) -> None:
    axes.spines[:].set_color(FRAME)
    axes.spines[:].set_linewidth(0.6)


def _name(axis: Axis, pieces: list[str], rotation: int = 0) -> None:
    """Write the pieces along an axis; `$` is an ordinary character here and begins no formula."""
    labels = [readable(piece) for piece in pieces]
    axis.set_ticks(range(len(pieces)), labels=labels, fontsize=PIECE, color=INK, rotation=rotation, parse_math=False)
    axis.set_tick_params(length=0, pad=3)


def readable(piece: str) -> str:
    """The letters of a piece, with a hyphen before those that continue a word."""
    if piece.startswith("▁"):
        return piece[1:] or "▁"
    return f"-{piece}" if piece[0].isalpha() else piece
