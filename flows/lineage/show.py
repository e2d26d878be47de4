"""`lineage show`: a chain as a tree and as JSON."""

from typing import Any

from rich.markup import escape
from rich.tree import Tree

from flows.lineage.chain import Chain, Step
from flows.lineage.lock import owner_of
from flows.lineage.sources import Source


def tree(chain: Chain) -> Tree:
    """What was asked for at the root, below each stage what it read, down to the sources and their licences."""
    root = Tree(f"[bold]{escape(chain.name)}[/]")
    finals = [step for step in chain.steps if not _users(chain, step)]
    asked = [step for step in chain.steps if any(owner_of(path, step.outputs) for path in chain.targets)]
    told: set[str] = set()
    for step in asked if len(asked) < len(chain.steps) else finals:
        _add(root, chain, step, told)
    return root


def _users(chain: Chain, step: Step) -> list[Step]:
    return [other for other in chain.steps if other is not step and step in chain.makers(other)]


def _add(parent: Tree, chain: Chain, step: Step, told: set[str]) -> None:
    branch = parent.add(
        f"[bold cyan]{step.stage}[/]" + (" [dim](as above)[/]" if step.stage in told else f"  {_facts(step)}")
    )
    if step.stage in told:
        return
    told.add(step.stage)
    for path, md5 in step.outputs.items():
        branch.add(f"[green]→ {escape(path)}[/]  [dim]{md5[:12]}[/]")
    if code := [path for path in step.inputs if chain.maker(path) is None]:
        branch.add(f"[dim]code: {escape(', '.join(code))}[/]")
    for other in reversed(chain.makers(step)):
        _add(branch, chain, other, told)
    if not chain.makers(step):
        for source in chain.sources:
            branch.add(_source(source))


def _facts(step: Step) -> str:
    """Where, when and by which runs, in one line."""
    record = step.record
    if record is None or step.found is None:
        return "[yellow]no record; as dvc.lock tells[/]"
    code = (record.code.commit or "no git")[:10] + (" + changes" if record.code.changes else "")
    device = ", ".join(record.machine.gpus) or record.machine.cpu
    seed = "" if record.seed is None else f", seed {record.seed}"
    run = f", MLflow {record.runs.mlflow[:8]}" if record.runs.mlflow else ""
    flow = f", Prefect {record.runs.prefect_flow_run[:8]}" if record.runs.prefect_flow_run else ""
    return f"[dim]{record.ended[:16].replace('T', ' ')}, code {code}{seed}, {escape(device)}{run}{flow}[/]"


def _source(source: Source) -> str:
    sha256 = f"  [dim]sha256 {source.sha256[:12]}[/]" if source.sha256 else ""
    return f"[yellow]{escape(source.origin)}[/]  [dim]{escape(source.licence)}[/]{sha256}"


def as_json(chain: Chain) -> dict[str, Any]:
    """All that is known of the chain, records included."""
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
    }
