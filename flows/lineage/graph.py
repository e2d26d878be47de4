"""A chain as nodes and edges: sources, contents and stages."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from flows.lineage.chain import Chain, Step
from flows.lineage.lock import owner_of

Kind = Literal["source", "stage", "content"]
SHAPES: dict[Kind, str] = {"source": '[/"{}"/]', "stage": '(["{}"])', "content": '["{}"]'}


@dataclass(frozen=True)
class Node:
    """A source, a stage or a content; `key` tells it from all others."""

    kind: Kind
    key: str
    label: str


Edge = tuple[Node, Node]


def edges(chain: Chain, by_corpus: bool = False) -> list[Edge]:
    """From each source or content to the stage that read it, and from each stage to what it wrote.

    `by_corpus` takes all sources of a corpus as one.
    """
    return list(dict.fromkeys(edge for step in chain.steps for edge in _edges_of(chain, step, by_corpus)))


def _edges_of(chain: Chain, step: Step, by_corpus: bool) -> Iterator[Edge]:
    stage = Node("stage", f"stage {step.stage}", step.stage)
    for path in step.inputs:
        if maker := chain.maker(path):
            folder = owner_of(path, maker.outputs) or path
            yield Node("content", folder, folder), stage
    if not chain.makers(step):
        for source in chain.sources:
            key, label = (source.corpus, source.corpus) if by_corpus else (source.file, source.origin)
            yield Node("source", key, label), stage
    for path in step.outputs:
        yield stage, Node("content", path, path)


def mermaid(chain: Chain) -> str:
    """The graph as a Mermaid flow chart, left to right."""
    names: dict[Node, str] = {}
    lines = ["flowchart LR"]
    for edge in edges(chain):
        for node in edge:
            if node not in names:
                names[node] = f"n{len(names)}"
                label = node.label.replace('"', "'")
                lines.append(f"    {names[node]}{SHAPES[node.kind].format(label)}")
        lines.append(f"    {names[edge[0]]} --> {names[edge[1]]}")
    return "\n".join(lines) + "\n"
