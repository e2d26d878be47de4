"""Are the workspace's outputs the committed ones? If not: which differ, what is the likely cause, does it matter?

A commit contains the hashes of all results and, in `reports/lineage/hypotheses/`, the translations of the test sets,
so that even a clone without a cache can compare its scores with the committed ones.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.checkout.workspace import CORPUS, HYPOTHESES, TRANSLATIONS
from flows.lineage.project import Project
from flows.lineage.scores import SIGNIFICANT, compare
from flows.records.dvc_files import LockedStage, owner_of
from flows.records.hashes import hash_tracked
from flows.records.hypotheses import hypotheses_in
from flows.records.nested_keys import flatten
from flows.records.record import Record

SHOWN = 3  # causes of a kind that are named one by one
EVALUATE = "evaluate"
# The packages whose arithmetic or format reaches an output's bytes.
DECISIVE = ("torch", "numpy", "sentencepiece", "pyarrow", "safetensors", "sacrebleu", "sacremoses", "matplotlib")


@dataclass
class Comparison:
    """The workspace's outputs against a commit's dvc.lock."""

    commit: str
    missing: list[str] = field(default_factory=list)  # outputs that are not in the workspace
    differing: dict[str, list[str]] = field(default_factory=dict)  # stage: its outputs that differ
    causes: list[str] = field(default_factory=list)
    outputs: int = 0  # of the commit


def compare_with_commit(project: Project, revision: str = "HEAD") -> Comparison | None:
    """Hash every output in the workspace and compare; None if the commit has no results, or there is no git.

    Causes are looked for only in stages whose outputs differ although nothing that they read from other stages does;
    the differences of later stages follow from those.
    """
    commit = project.git.commit(revision)
    committed = project.lock_at(commit) if commit else {}
    if not commit or not committed:
        return None
    found = Comparison(commit)
    made = {path for stage in committed.values() for path in stage.outputs}
    for name, before in committed.items():
        now = project.lock.get(name)
        here = {path: _md5(project.root / path) for path in before.outputs}
        found.outputs += len(here)
        found.missing += [path for path, md5 in here.items() if md5 is None]
        if differing := [path for path, md5 in here.items() if md5 not in (None, before.outputs[path])]:
            found.differing[name] = differing
            if now and not _reads_what_differs(before, now, made):
                found.causes += _causes(project, before, now, made)
    found.causes = list(dict.fromkeys(found.causes))
    return found


def _md5(path: Path) -> str | None:
    return hash_tracked(path).md5 if path.exists() else None


def _reads_what_differs(before: LockedStage, now: LockedStage, made: set[str]) -> bool:
    return any(
        now.inputs.get(path) != md5 for path, md5 in before.inputs.items() if owner_of(path, dict.fromkeys(made, ""))
    )


def _causes(project: Project, before: LockedStage, now: LockedStage, made: set[str]) -> Iterator[str]:
    """What else differs between the two executions of a stage, the likeliest cause first."""
    old, new = flatten(before.params), flatten(now.params)
    changed = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    yield from _some([f"{key} {_text(old.get(key))} → {_text(new.get(key))}" for key in changed], "of the params")
    code = {**before.inputs, **now.inputs}
    edited = [path for path in code if path not in made and before.inputs.get(path) != now.inputs.get(path)]
    yield from _some([f"another {path}" for path in edited], "of what the stages depend on")
    records = [project.records.of_lock(before), project.records.of_lock(now)]
    if records[0] and records[1]:
        yield from _surroundings(records[0].record, records[1].record)
    elif not changed and not edited:
        yield f"unknown: stage {before.name} has no lineage record of one of the two executions"


def _surroundings(before: Record, now: Record) -> Iterator[str]:
    """The differences between the machines, as far as the records know them."""
    for key in ("precision", "device"):
        if (old := before.measured.get(key)) != (new := now.measured.get(key)) and old and new:
            yield f"{key} {old} → {new}"
    for name in DECISIVE:
        if (old := before.machine.packages.get(name)) != (new := now.machine.packages.get(name)):
            yield f"{name} {old} → {new}"
    for key in ("threads", "cpu", "gpus", "python"):
        if (old := getattr(before.machine, key)) != (new := getattr(now.machine, key)):
            yield f"{key} {_text(old)} → {_text(new)}"


def _some(causes: list[str], kind: str) -> Iterator[str]:
    yield from causes[:SHOWN]
    if len(causes) > SHOWN:
        yield f"{len(causes) - SHOWN} more {kind}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def in_words(project: Project, found: Comparison) -> Iterator[str]:
    """The answer for the user, line by line."""
    if found.missing:
        names = ", ".join(found.missing)
        yield f"not here: {len(found.missing)} of {found.outputs} outputs ({names}): run make repro"
        return
    if not found.differing:
        yield f"reproduced: all {found.outputs} outputs are the committed ones, byte for byte"
        return
    differing = [path for paths in found.differing.values() for path in paths]
    yield f"not the committed results: {len(differing)} of {found.outputs} outputs differ: {', '.join(differing)}"
    unknown = "none is known: params, code, packages and machine are those of the committed records"
    yield f"likely cause: {'; '.join(found.causes) or unknown}"
    yield from _verdicts(project, found)


def _verdicts(project: Project, found: Comparison) -> Iterator[str]:
    """For each test set whose translations differ: is the difference of the scores more than chance?"""
    if TRANSLATIONS not in found.differing.get(EVALUATE, []):
        return
    if any(path.startswith(CORPUS) for paths in found.differing.values() for path in paths):
        yield "the test sets may differ, so the scores are not compared"
        return
    committed = project.git.below(found.commit, HYPOTHESES)
    params = flatten(project.lock[EVALUATE].params)
    language, tokenizer = str(params.get("languages.target", "en")), params.get("evaluation.bleu_tokenizer")
    for name, (references, ours) in hypotheses_in(project.root / TRANSLATIONS).items():
        theirs = committed.get(f"{name}.txt", b"").decode().splitlines()
        if len(theirs) != len(ours):
            yield f"{name}: the commit has no translations to compare with"
            continue
        for one in compare(name, theirs, ours, references, language, tokenizer):
            verdict = "a significant difference" if one.p_value < SIGNIFICANT else "no significant difference"
            scores = f"{one.b:.2f} here, {one.a:.2f} committed"
            yield f"{name}: {one.metric} {scores}: {verdict} (paired bootstrap, p = {one.p_value:.3f})"
