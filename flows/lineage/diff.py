"""`lineage diff`: what differs between two models, from the data's lines to the scores."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console
from rich.markup import escape

from flows.checkout.workspace import CORPUS
from flows.lineage.chain import Chain, files_of
from flows.lineage.project import Project
from flows.lineage.scores import SIGNIFICANT, PairedScore, numbers, paired_scores, with_evaluation
from flows.records.nested_keys import flatten
from flows.records.record import Machine

EXAMPLES = 3  # lines shown of each kind
SPLITS = ("train", "valid", "test")
Pair = tuple[str, str]
Change = tuple[Any, Any]  # as it is with A, and with B


@dataclass(frozen=True)
class LinesDifference:
    """The pairs of one split that only B has, and those that only A has."""

    split: str
    added: list[Pair]
    removed: list[Pair]
    common: int


@dataclass(frozen=True)
class Difference:
    """Everything that differs; None where one side's content is missing."""

    outputs: dict[str, Change]
    sources: dict[str, Change]
    lines: list[LinesDifference] | None
    params: dict[str, Change]
    code: dict[str, Change]  # inputs that no stage made
    commits: dict[str, Any]  # the range in git
    environment: dict[str, Change]
    scores: dict[str, Change] | None
    significance: list[PairedScore]


def diff(project: Project, a: Chain, b: Chain) -> Difference:
    """What differs from `a` to `b`."""
    scored_a, scored_b = with_evaluation(project, a), with_evaluation(project, b)
    first, second = numbers(project, scored_a), numbers(project, scored_b)
    params = _of_steps(b, lambda step: step.params)
    language = str(params.get("languages.target", "en"))
    return Difference(
        outputs=_changes(_contents(a), _contents(b)),
        sources=_changes(*({one.file: f"{one.origin} sha256 {one.sha256}" for one in c.sources} for c in (a, b))),
        lines=_compare_lines(project, a, b),
        params=_changes(_of_steps(a, lambda step: step.params), params),
        code=_changes(_code(a), _code(b)),
        commits=_commits(project, a, b),
        environment=_changes(_environment(a), _environment(b)),
        scores=None if first is None or second is None else _changes(first, second),
        significance=paired_scores(project, scored_a, scored_b, language, params.get("evaluation.bleu_tokenizer")),
    )


def _changes(a: dict[str, Any], b: dict[str, Any]) -> dict[str, Change]:
    keys = [*a, *(key for key in b if key not in a)]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def _contents(chain: Chain) -> dict[str, str]:
    return {path: md5 for step in chain.steps for path, md5 in step.outputs.items()}


def _code(chain: Chain) -> dict[str, str]:
    return {path: md5 for step in chain.steps for path, md5 in step.inputs.items() if chain.maker(path) is None}


def _compare_lines(project: Project, a: Chain, b: Chain) -> list[LinesDifference] | None:
    """Split by split; None if the content of one side is missing."""
    files = [files_of(project, chain, CORPUS) for chain in (a, b)]
    differences = []
    for split in SPLITS:
        name = f"{split}.parquet"
        if name not in files[0] or name not in files[1]:
            return None
        contents = [project.content(f"{CORPUS}/{name}", one[name]) for one in files]
        if contents[0] is None or contents[1] is None:
            return None
        old, new = (_pairs(content) for content in contents if content is not None)
        added, removed = new - old, old - new
        common = (old & new).total()
        differences.append(LinesDifference(split, list(added.elements()), list(removed.elements()), common))
    return differences


def _pairs(content: bytes) -> "Counter[Pair]":
    table = pq.read_table(io.BytesIO(content), columns=["source", "target"])
    return Counter(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))


def _of_steps(chain: Chain, table: Any) -> dict[str, Any]:
    return {key: value for step in chain.steps for key, value in flatten(table(step)).items()}


def _environment(chain: Chain) -> dict[str, Any]:
    """The machine of the last stage that has a record."""
    machines = [step.record.machine for step in chain.steps if step.record]
    return flatten(_plain(machines[-1])) if machines else {}


def _plain(machine: Machine) -> dict[str, Any]:
    return {**machine.model_dump(), "gpus": ", ".join(machine.gpus) or "none"}


def _commits(project: Project, a: Chain, b: Chain) -> dict[str, Any]:
    """The commits that the last stages ran on, what lies between them, and what was not committed."""
    codes = [next((step.record.code for step in reversed(chain.steps) if step.record), None) for chain in (a, b)]
    known = [code.commit if code else None for code in codes]
    found: dict[str, Any] = {"a": known[0], "b": known[1]}
    if known[0] and known[1] and known[0] != known[1]:
        log = project.git.run("log", "--oneline", f"{known[0]}..{known[1]}") or b""
        files = project.git.run("diff", "--stat", known[0], known[1], "--", ":!reports", ":!dvc.lock") or b""
        found |= {"log": log.decode().splitlines(), "files": files.decode().splitlines()}
    if len({code.changes for code in codes if code}) > 1:
        found |= {f"uncommitted in {side}": code.changed for side, code in zip("ab", codes, strict=True) if code}
    return found


def difference_json(difference: Difference) -> dict[str, Any]:
    """The whole difference."""
    return asdict(difference)


def print_difference(console: Console, difference: Difference) -> None:
    """Section by section; a section without differences says so."""
    for title, lines in (
        ("Data", list(_data(difference))),
        ("Params", list(_table(difference.params))),
        ("Code", list(_code_lines(difference))),
        ("Environment", list(_table(difference.environment))),
        ("Scores", list(_scores(difference))),
        ("Contents", [escape(f"{path}  {_short(a)} → {_short(b)}") for path, (a, b) in difference.outputs.items()]),
    ):
        console.print(f"[bold]{title}[/]")
        for line in lines or ["[dim]no difference[/]"]:
            console.print(f"  {line}")


def _table(changes: dict[str, Change]) -> Iterator[str]:
    for key, (a, b) in changes.items():
        yield escape(f"{key}: {_short(a)} → {_short(b)}")


def _data(difference: Difference) -> Iterator[str]:
    yield from _table(difference.sources)
    if difference.lines is None:
        yield "[yellow]the lines of one side are missing here: dvc pull[/]"
    for one in difference.lines or []:
        if not one.added and not one.removed:
            continue
        yield f"{one.split}: [green]+{len(one.added)}[/] [red]-{len(one.removed)}[/] lines, {one.common} the same"
        for sign, colour, pairs in (("+", "green", one.added), ("-", "red", one.removed)):
            for source, target in pairs[:EXAMPLES]:
                yield f"  [{colour}]{sign} {escape(source)} ||| {escape(target)}[/]"


def _code_lines(difference: Difference) -> Iterator[str]:
    commits = difference.commits
    if commits["a"] != commits["b"]:
        yield escape(f"{_short(commits['a'])}..{_short(commits['b'])}")
    for key in ("log", "files", "uncommitted in a", "uncommitted in b"):
        yield from (escape(f"{key}: {line}") for line in commits.get(key, []))
    yield from _table(difference.code)


def _scores(difference: Difference) -> Iterator[str]:
    if difference.scores is None:
        yield "[yellow]the scores of one side are missing here: dvc pull[/]"
    for one in difference.significance:
        verdict = "significant" if one.p_value < SIGNIFICANT else "may be chance"
        yield escape(
            f"{one.test_set} {one.metric}: {one.a:.2f} → {one.b:.2f} ({one.b - one.a:+.2f}, p = {one.p_value:.3f}, "
            f"{verdict}; paired bootstrap on {one.sentences} sentences)"
        )
    headline = {key: change for key, change in (difference.scores or {}).items() if key.count(".") <= 1}
    yield from _table(headline)


def _short(value: Any) -> str:
    text = "nothing" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text[:12] if len(text) >= 32 and " " not in text else text
