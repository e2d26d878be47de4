"""`lineage show --html` and `lineage verify --html`: the chain, with its verdicts, as a single self-contained page.

grandalf places the boxes (Sugiyama's layered layout); Jinja writes page.html and escapes every value in it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grandalf.graphs import Edge as GraphEdge
from grandalf.graphs import Graph, Vertex
from grandalf.layouts import SugiyamaLayout
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status
from flows.lineage.show import Edge, Node, edges
from flows.records.dvc_files import owner_of

WIDTH, HEIGHT, GAP, ROW = 216, 50, 28, 46  # pixels: a box, the space beside it, and from one row to the next
GRAVITY = list(Status)  # the gravest last
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


def page(chain: Chain, links: list[Link] | None = None) -> str:
    """A whole HTML document: the graph, the sources with their licences, and each stage's record.

    With the links that `verify` found it begins with their verdicts, and each stage has its own.
    """
    folder = FileSystemLoader(Path(__file__).parent)
    template = Environment(loader=folder, autoescape=True, undefined=StrictUndefined).get_template("page.html")
    vertices, lines = _lay_out(edges(chain, by_corpus=True))
    left = min((vertex.view.xy[0] for vertex in vertices), default=0) - WIDTH / 2 - GAP
    right = max((vertex.view.xy[0] for vertex in vertices), default=0) + WIDTH / 2 + GAP
    bottom = max((vertex.view.xy[1] for vertex in vertices), default=0) + HEIGHT
    return template.render(
        chain=chain,
        verified=links is not None,
        counts={status: sum(link.status is status for link in links or []) for status in Status},
        verdicts=_verdicts(chain, links or []),
        generations=list(chain.generations()),
        boxes=[_box(chain, vertex.data, *vertex.view.xy) for vertex in vertices],
        lines=[_curve(line.view.points) for line in lines],
        sheet=(left, -HEIGHT, right - left, bottom + HEIGHT),
        size=(WIDTH, HEIGHT),
    )


@dataclass
class _Verdict:
    """The links of one stage; of the chain as a whole where it belongs to none."""

    name: str
    aim: str  # the id of the stage's details
    links: list[Link]

    @property
    def worst(self) -> Status:
        """What a reader has to know first."""
        return max((link.status for link in self.noted), key=GRAVITY.index, default=Status.OK)

    @property
    def counts(self) -> str:
        """`41 ok, 1 missing`, the gravest last; without what there is none of."""
        found = {status: sum(link.status is status for link in self.links) for status in GRAVITY}
        return ", ".join(f"{count} {status}" for status, count in found.items() if count)

    @property
    def noted(self) -> list[Link]:
        """All that does not only count, the gravest first."""
        noted = (link for link in self.links if not link.only_counts)
        return sorted(noted, key=lambda link: GRAVITY.index(link.status), reverse=True)


def _verdicts(chain: Chain, links: list[Link]) -> list[_Verdict]:
    """By stage, in the order of the links; of a stage that has no details of its own there is no aim."""
    ids = {f"{'parent ' * age}{step.stage}": f"stage-{age}-{step.stage}" for age, step in _steps(chain)}
    found: dict[str, _Verdict] = {}
    for link in links:
        found.setdefault(link.stage, _Verdict(link.stage or "all", ids.get(link.stage, ""), [])).links.append(link)
    return list(found.values())


def _steps(chain: Chain) -> Iterator[tuple[int, Step]]:
    for age, one in enumerate(chain.generations()):
        yield from ((age, step) for step in one.steps)


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
