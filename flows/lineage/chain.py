"""The chain behind a file or folder: the stages that made it, joined by the hashes of what they read and wrote."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flows.checkout.workspace import MANIFEST, PARENT, REGISTRY
from flows.lineage.project import Project
from flows.lineage.record_search import Found
from flows.lineage.sources import Source, manifest_sources, registry_sources
from flows.records.dvc_files import LockedStage, owner_of
from flows.records.hashes import directory_md5, md5_of_bytes
from flows.records.record import Artifact, Record, md5s
from transformer.parent_folder import DESCRIPTION_FILE, MODEL_FOLDER, RECORDS_FOLDER

UNNAMED_PARENT = "its parent"  # where its description is not in this clone


@dataclass(frozen=True)
class Step:
    """One stage's part in a chain, taken from its record or else from dvc.lock."""

    stage: str
    command: str
    inputs: dict[str, str]  # path: MD5
    outputs: dict[str, str]
    params: dict[str, Any]
    found: Found | None
    locked: LockedStage | None

    @property
    def record(self) -> Record | None:
        """The record of this execution."""
        return self.found.record if self.found else None

    def artifact(self, path: str) -> Artifact | None:
        """What the record knows of an input or output."""
        known = [*self.record.inputs, *self.record.outputs] if self.record else []
        return next((one for one in known if one.path == path), None)


@dataclass
class Chain:
    """What was asked for, with every step behind it, sources first."""

    name: str
    targets: list[str]  # paths
    steps: list[Step] = field(default_factory=list)
    sources: list[Source] = field(default_factory=list)
    commit: str | None = None  # the git revision that was asked for; None: the workspace, or contents by their hash
    here: bool = False  # whether the workspace should hold exactly these contents
    parent: "Chain | None" = None  # of the model that the training started from

    def maker(self, path: str) -> Step | None:
        """The step that wrote `path`, itself or inside a folder."""
        return next((step for step in self.steps if owner_of(path, step.outputs)), None)

    def made_by(self, record: Record) -> bool:
        """Whether one of the steps is this execution; a parent that is its own child would have no end."""
        return any(step.record is not None and step.record.digest == record.digest for step in self.steps)

    def makers(self, step: Step) -> list[Step]:
        """The steps that made what `step` read."""
        found = [self.maker(path) for path in step.inputs]
        return [other for other in self.steps if any(other is one for one in found)]

    def sources_of(self, step: Step) -> list[Source]:
        """The published or local files that the step read; one that brings a parent reads none of them."""
        return [] if self.makers(step) or PARENT in step.outputs else self.sources

    def brought_by(self, step: Step) -> "Chain | None":
        """The chain of the model that the step brought from elsewhere."""
        return self.parent if PARENT in step.outputs else None

    def generations(self) -> Iterator["Chain"]:
        """The chain itself, that of its parent, and so on."""
        yield self
        if self.parent:
            yield from self.parent.generations()

    def step(self, stage: str) -> Step | None:
        """The step of this stage."""
        return next((step for step in self.steps if step.stage == stage), None)


def chain_of_lock(
    project: Project, name: str, lock: dict[str, LockedStage], targets: list[str], commit: str | None
) -> Chain:
    """The chain behind `targets` by a dvc.lock: the workspace's, or that of `commit`."""
    chain = Chain(name, targets, commit=commit, here=commit is None)
    _add_locked(project, chain, lock, targets)
    chain.steps = _makers_first(chain, list(lock))
    chain.sources = _sources(project, chain)
    chain.parent = _parent(project, chain, commit)
    return chain


def _makers_first(chain: Chain, order: list[str]) -> list[Step]:
    """The steps in the order of dvc.lock, but each after those that made what it read: DVC adds stages at its end."""
    left, ordered = sorted(chain.steps, key=lambda step: order.index(step.stage)), list[Step]()
    while left:
        ready = (step for step in left if not any(maker in left for maker in chain.makers(step)))
        ordered.append(next(ready, left[0]))
        left.remove(ordered[-1])
    return ordered


def _add_locked(project: Project, chain: Chain, lock: dict[str, LockedStage], paths: list[str]) -> None:
    for path in paths:
        makers = [stage for stage in lock.values() if owner_of(path, stage.outputs)]
        for stage in makers:
            if chain.step(stage.name) is None:
                found = project.records.of_lock(stage, chain.commit)
                step = Step(stage.name, stage.command, stage.inputs, stage.outputs, stage.params, found, stage)
                chain.steps.append(step)
                _add_locked(project, chain, lock, list(stage.inputs))


def chain_of_record(
    project: Project, name: str, found: Found, targets: list[str], revision: str | None = None
) -> Chain:
    """The chain behind the outputs of one execution, joined by hashes alone, by a `revision`'s records or by all."""
    chain = Chain(name, targets)
    _add_recorded(project, chain, found, revision)
    chain.sources = _sources(project, chain)
    chain.parent = _parent(project, chain, revision)
    return chain


def _add_recorded(project: Project, chain: Chain, found: Found, revision: str | None) -> None:
    record = found.record
    if chain.step(record.stage):
        return
    for one in record.inputs:
        maker = project.records.maker(one.path, one.md5, before=record.started, revision=revision)
        if maker:
            _add_recorded(project, chain, maker, revision)
    locked = None
    if found.commit:
        entry = project.lock_at(found.commit).get(record.stage)
        locked = entry if entry and entry.outputs == md5s(record.outputs) else None
    chain.steps.append(
        Step(
            stage=record.stage,
            command=record.command,
            inputs=md5s(record.inputs),
            outputs=md5s(record.outputs),
            params=record.depended,
            found=found,
            locked=locked,
        )
    )


def _parent(project: Project, chain: Chain, revision: str | None) -> Chain | None:
    """The chain of the model that was brought to models/parent; empty where no record knows its content."""
    files = files_of(project, chain, PARENT)
    model = {
        name.removeprefix(f"{MODEL_FOLDER}/"): md5 for name, md5 in files.items() if name.startswith(MODEL_FOLDER)
    }
    if not model:
        return None
    name = _name_of_parent(project, files[DESCRIPTION_FILE])
    project.records.bring(project.content(f"{PARENT}/{path}", md5) for path, md5 in files.items() if _is_record(path))
    step = chain.maker(PARENT)
    before = step.record.started if step and step.record else None
    known = project.records.writer_of(directory_md5(model), before=before, revision=revision)
    if known is None or chain.made_by(known[0].record):
        return Chain(name, [])
    return chain_of_record(project, name, known[0], [known[1]], revision)


def _is_record(path: str) -> bool:
    return path.startswith(f"{RECORDS_FOLDER}/")


def _name_of_parent(project: Project, md5: str) -> str:
    content = project.content(f"{PARENT}/{DESCRIPTION_FILE}", md5)
    try:
        return str(json.loads(content or b"")["resolved"])
    except (ValueError, KeyError, TypeError):
        return UNNAMED_PARENT


def files_of(project: Project, chain: Chain, folder: str) -> dict[str, str]:
    """The files of an output folder with their MD5s; empty if the chain has no such folder or no copy is kept."""
    step = chain.maker(folder)
    if step is None or folder not in step.outputs:
        return {}
    artifact = step.artifact(folder)
    if artifact and artifact.md5 == step.outputs[folder]:
        return artifact.files
    return project.stores.cache.listing(step.outputs[folder]) or {}


def _sources(project: Project, chain: Chain) -> list[Source]:
    """From the manifest if its content is kept somewhere, else from the registry as the download read it."""
    step = chain.maker(MANIFEST)
    if step is None:
        return []
    content = project.content(MANIFEST, step.outputs[MANIFEST])
    if content is not None:
        return manifest_sources(content)
    registry = registry_of(project, chain, step)
    return registry_sources(registry, step.params["download"]["corpora"]) if registry else []


def registry_of(project: Project, chain: Chain, step: Step) -> bytes | None:
    """The corpus registry as the step read it, from git or the workspace; None if it is lost."""
    recorded = [step.found.commit, step.found.record.code.commit] if step.found else []
    for commit in filter(None, [chain.commit, *recorded]):
        content = project.git.file(commit, REGISTRY)
        if content is not None and md5_of_bytes(content) == step.inputs.get(REGISTRY):
            return content
    return project.content(REGISTRY, step.inputs[REGISTRY]) if REGISTRY in step.inputs else None
