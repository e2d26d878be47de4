"""`lineage show --html`: the chain as a single self-contained page.

grandalf places the boxes (Sugiyama's layered layout); Jinja writes page.html and escapes every value in it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandalf.graphs import Edge as GraphEdge
from grandalf.graphs import Graph, Vertex
from grandalf.layouts import SugiyamaLayout
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.lineage.chain import Chain
from flows.lineage.show import Edge, Node, edges
from flows.records.dvc_files import owner_of

WIDTH, HEIGHT, GAP, ROW = 216, 50, 28, 46  # pixels: a box, the space beside it, and from one row to the next
SWEEPS = 4  # over the rows, to reduce crossings


@dataclass
class _View:
    """What grandalf attaches positions to; `xy` is the centre of a box, `points` is the route of an edge."""

    w: float = WIDTH
    h: float = HEIGHT
    xy: tuple[float, float] = (0, 0)
    points: tuple[tuple[float, float], ...] = ()

    def setpath(self, points: list[tuple[float, float]]) -> None:
        """Called by grandalf with the route of an edge."""
        self.points = tuple(points)


def page(chain: Chain) -> str:
    """A whole HTML document: the graph, the sources with their licences, and each stage's record."""
    folder = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    vertices, lines = _lay_out(edges(chain, by_corpus=True))
    left = min((vertex.view.xy[0] for vertex in vertices), default=0) - WIDTH / 2 - GAP
    right = max((vertex.view.xy[0] for vertex in vertices), default=0) + WIDTH / 2 + GAP
    bottom = max((vertex.view.xy[1] for vertex in vertices), default=0) + HEIGHT
    return template.render(
        chain=chain,
        generations=list(chain.generations()),
        boxes=[_box(chain, vertex.data, *vertex.view.xy) for vertex in vertices],
        lines=[_curve(line.view.points) for line in lines],
        sheet=(left, -HEIGHT, right - left, bottom + HEIGHT),
        size=(WIDTH, HEIGHT),
    )


def _lay_out(graph_edges: list[Edge]) -> tuple[list[Any], list[Any]]:
    """grandalf's vertices and edges, placed: independent parts of the graph side by side."""
    vertices = {node: Vertex(node) for edge in graph_edges for node in edge}
    lines = [GraphEdge(vertices[start], vertices[end]) for start, end in graph_edges]
    for element in (*vertices.values(), *lines):
        element.view = _View()
    right = 0.0
    for part in Graph(list(vertices.values()), lines).C:
        layout = SugiyamaLayout(part)
        layout.xspace, layout.yspace = GAP, ROW
        layout.init_all()
        layout.draw(SWEEPS)
        members = list(part.V())
        shift = right - min(vertex.view.xy[0] for vertex in members)
        for vertex in members:
            vertex.view.xy = (vertex.view.xy[0] + shift, vertex.view.xy[1])
        for line in part.E():
            line.view.points = tuple((x + shift, y) for x, y in line.view.points)
        right = max(vertex.view.xy[0] for vertex in members) + WIDTH + GAP
    return list(vertices.values()), lines


def _curve(points: tuple[tuple[float, float], ...]) -> str:
    """An SVG path from below the first box to above the last one, vertical at each point."""
    (x, y), *between, (end_x, end_y) = points
    y += HEIGHT / 2
    path = f"M{x:.0f} {y:.0f}"
    for to_x, to_y in [*between, (end_x, end_y - HEIGHT / 2)]:
        middle = (y + to_y) / 2
        path += f"C{x:.0f} {middle:.0f} {to_x:.0f} {middle:.0f} {to_x:.0f} {to_y:.0f}"
        x, y = to_x, to_y
    return path


def _box(chain: Chain, node: Node, x: float, y: float) -> dict[str, Any]:
    own = list(chain.generations())[node.age]
    maker = own.maker(node.key) if node.kind == "content" else None
    asked = (
        node.age == 0
        and len(chain.targets) == 1
        and node.kind == "content"
        and owner_of(chain.targets[0], {node.key: ""})
    )
    return {
        "kind": f"{node.kind} asked" if asked else node.kind,
        "aim": "sources" if node.kind == "source" else f"stage-{node.age}-{maker.stage if maker else node.label}",
        "label": node.label,
        "caption": _caption(own, node),
        "x": round(x - WIDTH / 2),
        "y": round(y - HEIGHT / 2),
    }


def _caption(chain: Chain, node: Node) -> str:
    """The box's second line."""
    if node.kind == "source":
        return ", ".join(dict.fromkeys(one.licence for one in chain.sources if one.corpus == node.key))
    if node.kind == "content":
        maker = chain.maker(node.key)
        return f"md5 {maker.outputs[node.key][:12]}" if maker else ""
    step = chain.step(node.label)
    record = step.record if step else None
    return f"{record.ended[:16].replace('T', ' ')} UTC" if record else "no record"
