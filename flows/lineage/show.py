"""`lineage show`: a chain as a tree, as JSON, and as a graph for Mermaid and for the page."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from rich.text import Text
from rich.tree import Tree

from flows.lineage.chain import Chain, Step
from flows.lineage.sources import Source
from flows.records.dvc_files import owner_of

Kind = Literal["source", "stage", "content"]
SHAPES: dict[Kind, str] = {"source": '[/"{}"/]', "stage": '(["{}"])', "content": '["{}"]'}


def tree(chain: Chain) -> Tree:
    """The target at the root, below each stage what it read, down to the sources and their licences.

    Below the stage that brought a parent follows the parent's own tree.
    """
    root = Tree(Text(chain.name, "bold"))
    _add_asked(root, chain)
    return root


def _add_asked(root: Tree, chain: Chain) -> None:
    finals = [step for step in chain.steps if not _users(chain, step)]
    asked = [step for step in chain.steps if any(owner_of(path, step.outputs) for path in chain.targets)]
    shown: set[str] = set()
    for step in asked if len(asked) < len(chain.steps) else finals:
        _add(root, chain, step, shown)


def _users(chain: Chain, step: Step) -> list[Step]:
    return [other for other in chain.steps if other is not step and step in chain.makers(other)]


def _add(parent: Tree, chain: Chain, step: Step, shown: set[str]) -> None:
    name = (step.stage, "bold cyan")
    if step.stage in shown:
        parent.add(Text.assemble(name, (" (as above)", "dim")))
        return
    shown.add(step.stage)
    branch = parent.add(Text.assemble(name, "  ", _facts(step)))
    for path, md5 in step.outputs.items():
        branch.add(Text.assemble((f"→ {path}", "green"), "  ", (md5[:12], "dim")))
    if code := [path for path in step.inputs if chain.maker(path) is None]:
        branch.add(Text(f"code: {', '.join(code)}", "dim"))
    for other in reversed(chain.makers(step)):
        _add(branch, chain, other, shown)
    for source in chain.sources_of(step):
        branch.add(_source(source))
    if before := chain.brought_by(step):
        known = "" if before.steps else ": no record knows its content"
        _add_asked(branch.add(Text(f"from {before.name}{known}", "bold")), before)


def _facts(step: Step) -> tuple[str, str]:
    """When, with which code, where and in which runs, in one line, with its style."""
    record = step.record
    if record is None or step.found is None:
        return "no record; this is from dvc.lock", "yellow"
    code = (record.code.commit or "no git")[:10] + (" + changes" if record.code.changes else "")
    device = ", ".join(record.machine.gpus) or record.machine.cpu
    seed = "" if record.seed is None else f", seed {record.seed}"
    run = f", MLflow {record.runs.mlflow[:8]}" if record.runs.mlflow else ""
    flow = f", Prefect {record.runs.prefect_flow_run[:8]}" if record.runs.prefect_flow_run else ""
    return f"{record.ended[:16].replace('T', ' ')}, code {code}{seed}, {device}{run}{flow}", "dim"


def _source(source: Source) -> Text:
    sha256 = f"  sha256 {source.sha256[:12]}" if source.sha256 else ""
    return Text.assemble((source.origin, "yellow"), "  ", (f"{source.licence}{sha256}", "dim"))


def as_json(chain: Chain) -> dict[str, Any]:
    """Everything that is known about the chain, records included."""
    return {
        "name": chain.name,
        "commit": chain.commit,
        "targets": chain.targets,
        "sources": [vars(source) for source in chain.sources],
        "steps": [
            {
                "stage": step.stage,
                "command": step.command,
                "inputs": step.inputs,
                "outputs": step.outputs,
                "params": step.params,
                "found": step.found.origin if step.found else None,
                "record": step.record.model_dump() if step.record else None,
            }
            for step in chain.steps
        ],
        "parent": as_json(chain.parent) if chain.parent else None,
    }


@dataclass(frozen=True)
class Node:
    """A box of the graph: a source, a stage or a content; `key` tells it from all others of its kind and age."""

    kind: Kind
    key: str
    label: str
    age: int = 0  # of its chain: 0, the parent's 1, …


Edge = tuple[Node, Node]


def edges(chain: Chain, by_corpus: bool = False) -> list[Edge]:
    """From each source or content to the stage that read it, and from each stage to what it wrote.

    `by_corpus` draws all sources of a corpus as one.
    """
    generations = [(age, one, step) for age, one in enumerate(chain.generations()) for step in one.steps]
    found = (edge for age, one, step in generations for edge in _edges_of(one, step, by_corpus, age))
    return list(dict.fromkeys(found))


def _edges_of(chain: Chain, step: Step, by_corpus: bool, age: int) -> Iterator[Edge]:
    stage = Node("stage", step.stage, step.stage, age)
    for path in step.inputs:
        if maker := chain.maker(path):
            folder = owner_of(path, maker.outputs) or path
            yield Node("content", folder, folder, age), stage
    for source in chain.sources_of(step):
        key, label = (source.corpus, source.corpus) if by_corpus else (source.file, source.origin)
        yield Node("source", key, label, age), stage
    for path in step.outputs:
        yield stage, Node("content", path, path, age)
    if parent := chain.brought_by(step):
        for path in parent.targets:
            yield Node("content", path, path, age + 1), stage


def mermaid(chain: Chain) -> str:
    """The graph as a Mermaid flow chart, left to right."""
    names: dict[Node, str] = {}
    lines = ["flowchart LR"]
    for edge in edges(chain):
        for node in edge:
            if node not in names:
                names[node] = f"n{len(names)}"
                lines.append(f"    {names[node]}{SHAPES[node.kind].format(_mermaid_text(node.label))}")
        lines.append(f"    {names[edge[0]]} --> {names[edge[1]]}")
    return "\n".join(lines) + "\n"


def _mermaid_text(label: str) -> str:
    """The label with Mermaid's character codes for whatever could end it or be taken for HTML."""
    return re.sub(r"[^\w ./:@%+=,-]", lambda character: f"#{ord(character[0])};", label)
