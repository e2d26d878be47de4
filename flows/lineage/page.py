"""`lineage show --html`: the chain as one page that needs nothing but itself."""

import json
from html import escape
from typing import Any

from flows.lineage.chain import Chain, Step
from flows.lineage.graph import Node, edges
from flows.lineage.layout import HEIGHT, WIDTH, Layout, lay_out
from flows.lineage.lock import owner_of

STYLE = """
:root { --ink: #1d2433; --dim: #667085; --paper: #ffffff; --sheet: #f6f7f9; --line: #c9cfda; --source: #b54708;
  --source-fill: #fff4e5; --stage: #175cd3; --content: #067647; --content-fill: #ecfdf3 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9f0; --dim: #98a2b3; --paper: #12161f; --sheet: #0c0f16; --line: #3a4356; --source: #fdb022;
    --source-fill: #2b1d09; --stage: #2e6fe0; --content: #47cd89; --content-fill: #0b2318 }
}
* { box-sizing: border-box }
body { margin: 0; background: var(--sheet); color: var(--ink); font: 15px/1.5 system-ui, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 28px 20px 60px }
h1 { font-size: 24px; margin: 0 }
h2 { font-size: 17px; margin: 30px 0 10px }
a { color: var(--stage) }
p.lead { color: var(--dim); margin: 4px 0 20px }
.card { background: var(--paper); border: 1px solid var(--line); border-radius: 10px }
.graph { overflow-x: auto; text-align: center; padding: 6px }
svg text { font: 600 13px system-ui, sans-serif; fill: var(--ink) }
svg text.small { font: 11px ui-monospace, monospace; fill: var(--dim) }
svg .stage text { fill: #fff }
svg .stage text.small { fill: #dbe7ff }
path { fill: none; stroke: var(--line); stroke-width: 1.6 }
path.tip { fill: var(--line); stroke: none }
rect { stroke-width: 1.3 }
.asked rect, a:hover rect { stroke-width: 3 }
.source rect { fill: var(--source-fill); stroke: var(--source) }
.stage rect { fill: var(--stage); stroke: var(--stage) }
.content rect { fill: var(--content-fill); stroke: var(--content) }
table { border-collapse: collapse; width: 100% }
td, th { text-align: left; padding: 6px 12px; vertical-align: top; border-top: 1px solid var(--line) }
tr:first-child > * { border-top: 0 }
th { color: var(--dim); font-weight: 500; white-space: nowrap; width: 1% }
td { overflow-wrap: anywhere }
code { font: 12.5px ui-monospace, monospace }
details { margin: 8px 0 }
details:target { outline: 2px solid var(--stage) }
summary { padding: 10px 14px; cursor: pointer; font-weight: 600 }
summary span { color: var(--dim); font-weight: 400; margin-left: 10px }
"""
TIP = (
    '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    '<path class="tip" d="M0 0L8 4L0 8z"/></marker></defs>'
)
SCRIPT = """
const open = () => { const aim = document.getElementById(location.hash.slice(1)); if (aim) aim.open = true }
addEventListener("hashchange", open); open()
"""


def page(chain: Chain) -> str:
    """A whole HTML document: the graph, the sources with their licences, and each stage's record."""
    counts = f"{len(chain.steps)} stages, {len(chain.sources)} sources"
    where = f"git revision {chain.commit[:10]}" if chain.commit else "the workspace" if chain.here else "records"
    stages = "".join(_stage(step) for step in reversed(chain.steps))
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Lineage of {escape(chain.name)}</title><style>{STYLE}</style>
<main><h1>Lineage of {escape(chain.name)}</h1>
<p class="lead">{counts}, as told by {where}. Boxes lead to the details.</p>
<div class="card graph">{_svg(chain, lay_out(edges(chain, by_corpus=True)))}</div>
<h2 id="sources">Sources</h2><div class="card"><table>{_sources(chain)}</table></div>
<h2>Stages, the last one first</h2>{stages}</main><script>{SCRIPT}</script></html>
"""


def _svg(chain: Chain, layout: Layout) -> str:
    lines = "".join(f'<path d="{path}" marker-end="url(#tip)"/>' for path in layout.paths)
    boxes = "".join(_box(chain, node, *corner) for node, corner in layout.corners.items())
    size = f'width="{layout.width:.0f}" height="{layout.height:.0f}"'
    return f'<svg {size} viewBox="0 0 {layout.width:.0f} {layout.height:.0f}" role="img">{TIP}{lines}{boxes}</svg>'


def _box(chain: Chain, node: Node, x: float, y: float) -> str:
    asked = node.kind == "content" and any(owner_of(path, {node.key: ""}) for path in chain.targets)
    kind = f"{node.kind} asked" if asked and len(chain.targets) == 1 else node.kind
    maker = chain.maker(node.key) if node.kind == "content" else None
    aim = "sources" if node.kind == "source" else f"stage-{maker.stage if maker else node.label}"
    middle = x + WIDTH / 2
    return (
        f'<a href="#{escape(aim)}"><g class="{kind}"><title>{escape(node.label)}</title>'
        f'<rect x="{x:.0f}" y="{y:.0f}" width="{WIDTH}" height="{HEIGHT}" rx="{25 if node.kind == "stage" else 7}"/>'
        f'<text x="{middle:.0f}" y="{y + 21:.0f}" text-anchor="middle">{escape(_shortened(node.label, 28))}</text>'
        f'<text class="small" x="{middle:.0f}" y="{y + 38:.0f}" text-anchor="middle">'
        f"{escape(_shortened(_caption(chain, node), 32))}</text></g></a>"
    )


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


def _shortened(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def _sources(chain: Chain) -> str:
    rows = [
        f"<tr><td>{escape(one.file)}</td><td>{_address(one.origin)}</td><td>{escape(one.licence)}</td>"
        f"<td><code>{escape((one.sha256 or 'not stated')[:16])}</code></td></tr>"
        for one in chain.sources
    ]
    return "<tr><th>file</th><th>from</th><th>licence</th><th>sha256</th></tr>" + "".join(rows)


def _address(origin: str) -> str:
    return f'<a href="{escape(origin)}">{escape(origin)}</a>' if origin.startswith("http") else escape(origin)


def _stage(step: Step) -> str:
    found = step.found.origin if step.found else "dvc.lock only"
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{text}</td></tr>" for name, text in _facts(step).items())
    return (
        f'<details class="card" id="stage-{escape(step.stage)}"><summary>{escape(step.stage)}'
        f"<span>{escape(found)}</span></summary><table>{rows}</table></details>"
    )


def _facts(step: Step) -> dict[str, str]:
    """The rows of a stage's table, as HTML."""
    facts: dict[str, Any] = {"command": step.command}
    if record := step.record:
        machine, runs = record.machine, record.runs
        changes = f" with changes to {', '.join(record.code.changed)}" if record.code.changed else ""
        facts |= {
            "ran": f"{record.started} to {record.ended}",
            "code": f"{record.code.commit or 'no git'} ({record.code.branch}){changes}",
            "machine": f"{', '.join(machine.gpus) or machine.cpu}, {machine.os}, Python {machine.python}",
            "MLflow run": runs.mlflow or "none known",
            "Prefect": f"flow run {runs.prefect_flow_run}, task run {runs.prefect_task_run}"
            if runs.prefect_flow_run
            else "started without",
        }
    rows = {name: escape(str(value)) for name, value in facts.items()}
    rows["params"] = f"<code>{escape(json.dumps(step.params))}</code>"
    for name, artifacts in (("read", step.inputs), ("wrote", step.outputs)):
        rows[name] = "<br>".join(f"{escape(path)} <code>{md5}</code>" for path, md5 in artifacts.items())
    return rows
