"""Where the nodes of a graph stand: in rows by their longest way from a source, near what they follow from."""

from collections.abc import Sequence
from dataclasses import dataclass

from flows.lineage.graph import Edge, Node

WIDTH, HEIGHT, GAP, ROW = 216, 50, 28, 96  # pixels: a box, the space beside it, from row to row
LANE, BEND = 16, 12  # pixels between lines that pass rows on the outside; the radius of their corners


@dataclass(frozen=True)
class Layout:
    """Boxes by their left upper corner, on a sheet of `width` by `height` pixels."""

    corners: dict[Node, tuple[float, float]]
    paths: list[str]  # SVG
    width: float
    height: float


def lay_out(edges: Sequence[Edge]) -> Layout:
    """Rows from top to bottom, each centred, ordered by the mean place of what its boxes follow from."""
    nodes = list(dict.fromkeys(node for edge in edges for node in edge))
    before: dict[Node, list[Node]] = {node: [one for one, other in edges if other == node] for node in nodes}
    rows: dict[Node, int] = {}

    def row_of(node: Node) -> int:
        if node not in rows:
            rows[node] = max((row_of(one) + 1 for one in before[node]), default=0)
        return rows[node]

    by_row = [
        [node for node in nodes if row_of(node) == row] for row in range(max(map(row_of, nodes), default=0) + 1)
    ]
    long = [edge for edge in edges if rows[edge[1]] > rows[edge[0]] + 1]
    margin = GAP + LANE * len(long)
    width = max(map(len, by_row), default=0) * (WIDTH + GAP) - GAP + 2 * margin
    corners: dict[Node, tuple[float, float]] = {}
    after = {node: sum(one == node for one, _ in edges) for node in nodes}
    for row, members in enumerate(by_row):
        members.sort(key=lambda node: (_mean([corners[one][0] for one in before[node]]), -after[node]))
        left = (width - len(members) * (WIDTH + GAP) + GAP) / 2
        for column, node in enumerate(_busiest_in_the_middle(members, after) if row else members):
            corners[node] = (left + column * (WIDTH + GAP), GAP + row * ROW)
    lanes = {edge: margin - GAP / 2 - LANE * number for number, edge in enumerate(long)}
    lanes = {edge: width - lane if corners[edge[0]][0] > width / 2 else lane for edge, lane in lanes.items()}
    paths = [_path(corners[edge[0]], corners[edge[1]], lanes.get(edge)) for edge in edges]
    return Layout(corners, paths, width, GAP + len(by_row) * ROW)


def _path(start: tuple[float, float], end: tuple[float, float], lane: float | None) -> str:
    """From below a box to above the next one; with a lane, out to it on its side and back."""
    if lane is None:
        x, y, to_x, to_y = start[0] + WIDTH / 2, start[1] + HEIGHT, end[0] + WIDTH / 2, end[1]
        middle = (y + to_y) / 2
        return f"M{x:.0f} {y:.0f}C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
    right = lane > start[0]
    x, to_x, bend = (start[0] + WIDTH, end[0] + WIDTH, -BEND) if right else (start[0], end[0], BEND)
    y, to_y = start[1] + HEIGHT / 2, end[1] + HEIGHT / 2
    return (
        f"M{x:.0f} {y:.0f}H{lane + bend:.0f}Q{lane:.0f} {y:.0f} {lane:.0f} {y + BEND:.0f}"
        f"V{to_y - BEND:.0f}Q{lane:.0f} {to_y:.0f} {lane + bend:.0f} {to_y:.0f}H{to_x:.0f}"
    )


def _mean(places: list[float]) -> float:
    return sum(places) / len(places) if places else 0.0


def _busiest_in_the_middle(members: list[Node], after: dict[Node, int]) -> list[Node]:
    """What is read later stays on the way down; ends move aside."""
    read, ends = [node for node in members if after[node]], [node for node in members if not after[node]]
    half = len(ends) // 2
    return [*ends[:half], *read, *ends[half:]]
