"""Checks of the past: records, dvc.lock and dvc.yaml, and the code and params at the recorded commits."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

from flows.lineage.chain import Chain, Step
from flows.lineage.contents import md5_at
from flows.lineage.links import Link, Status, broken, compared, compared_maps, missing
from flows.lineage.lock import LockedStage
from flows.lineage.project import LOCK_FILE, Project
from flows.lineage.records import Found
from flows.records.dvc_yaml import parse_yaml
from flows.records.provenance import StageFiles, flatten
from flows.records.record import Record, parse_record, record_path
from transformer.errors import DataError

PARAMS_FILE = "params.yaml"


def check_past(project: Project, chain: Chain) -> Iterator[Link]:
    """Each step's record, its entry in dvc.lock now and as committed, its definition, code and params."""
    head = _head_lock(project) if chain.here else {}
    yield from _absent_stages(project, chain, head)
    for step in chain.steps:
        if chain.here:
            yield from _workspace_record(project, step)
        yield from _definition(project, chain, step)
        if step.found is None:
            yield from _unexplained(step, head.get(step.stage))
            continue
        record = step.found.record
        yield compared(step.stage, "record", "its digest", record.expected_digest, record.digest)
        if step.locked:
            yield from _lock(step.stage, LOCK_FILE, record, step.locked)
        if project.git.present:
            committed = project.records.committed(record)
            yield from _committed_record(project, step.found, committed)
            yield from _code(project, chain, step, record, committed)


def _head_lock(project: Project) -> dict[str, LockedStage]:
    try:
        return project.lock_at("HEAD")
    except DataError:
        return {}  # nobody's stage is explained by it


def _absent_stages(project: Project, chain: Chain, head: dict[str, LockedStage]) -> Iterator[Link]:
    """A stage that dvc.lock has lost cuts the chain short."""
    for name in head if chain.here else ():
        if name not in project.lock:
            yield broken(name, "entry", LOCK_FILE, "expected the stage that HEAD has found nothing")


def _unexplained(step: Step, head: LockedStage | None) -> Iterator[Link]:
    """No record has the outputs of dvc.lock; where HEAD's dvc.lock has others, it was edited."""
    yield missing(step.stage, "record", "workspace, git, MLflow", f"no record has the outputs of {LOCK_FILE}")
    if head:
        yield compared_maps(step.stage, "outputs", f"{LOCK_FILE} at HEAD", head.outputs, step.outputs)


def _workspace_record(project: Project, step: Step) -> Iterator[Link]:
    """The record in the workspace, be it this execution's or another's, is whole and the one that git holds."""
    path = record_path(project.root, step.stage)
    name = path.relative_to(project.root).as_posix()
    committed = project.git.file("HEAD", name) if project.git.present else None
    if not path.exists():
        if committed is not None:
            yield missing(step.stage, name, "workspace", "not there, though git has it")
        return
    try:
        record = parse_record(path.read_bytes(), name)
    except DataError as error:
        yield broken(step.stage, name, "workspace", str(error))
        return
    yield compared(step.stage, name, "its stage", step.stage, record.stage)
    yield compared(step.stage, name, "its digest", record.expected_digest, record.digest)
    known = [found.record for found in project.records.history() if found.record.runs.spool == record.runs.spool]
    if known and committed is not None:
        try:
            head = parse_record(committed, f"{name} at HEAD")
        except DataError as error:
            yield broken(step.stage, name, "git", str(error))
            return
        yield compared(step.stage, name, "git", head.digest, record.digest)


def _definition(project: Project, chain: Chain, step: Step) -> Iterator[Link]:
    """dvc.yaml still defines the stage that ran."""
    if not chain.here and chain.commit is None:
        return
    try:
        if chain.commit is None:
            stage = StageFiles.read(step.stage, project.root / "dvc.yaml")
        else:
            stage = StageFiles.parse(step.stage, project.git.file(chain.commit, "dvc.yaml") or b"")
    except (yaml.YAMLError, KeyError, TypeError, AttributeError) as error:
        yield broken(step.stage, "dvc.yaml", "its definition", f"expected the stage found {error!r}")
        return
    yield compared(step.stage, "command in dvc.yaml", "its definition", step.command, stage.command)
    for what, expected, found in (
        ("deps", step.inputs, stage.inputs),
        ("outs", step.outputs, stage.outputs),
        ("params", _named_as_in(stage.params, flatten(step.params)), stage.params),
    ):
        listed = (dict.fromkeys(sorted(names), "it") for names in (expected, found))
        yield compared_maps(step.stage, f"{what} in dvc.yaml", "its definition", *listed)


def _named_as_in(names: list[str], leaves: Iterable[str]) -> set[str]:
    """For each param the name, of a section or its own, under which dvc.yaml lists it; its own where it does not."""
    return {next((name for name in names if f"{leaf}.".startswith(f"{name}.")), leaf) for leaf in leaves}


def _lock(stage: str, where: str, record: Record, entry: LockedStage) -> Iterator[Link]:
    """An entry of a dvc.lock says what the record says."""
    yield compared(stage, "command", where, record.command, entry.command)
    yield compared_maps(stage, "inputs", where, _md5s(record.inputs), entry.inputs)
    yield compared_maps(stage, "outputs", where, _md5s(record.outputs), entry.outputs)
    yield compared_maps(stage, "params", where, flatten(record.depended), flatten(entry.params))


def _md5s(artifacts: list[Any]) -> dict[str, str]:
    return {one.path: one.md5 for one in artifacts}


def _committed_record(project: Project, found: Found, committed: Found | None) -> Iterator[Link]:
    record = found.record
    if committed is None or committed.commit is None:
        yield missing(record.stage, "record", "git", "not committed yet")
        return
    if not project.git.refs_with(committed.commit):
        yield broken(record.stage, "record", "git", f"expected a branch or tag with {committed.commit} found none")
    yield compared(record.stage, "record", "git", committed.record.digest, record.digest)
    where = f"{LOCK_FILE} at {committed.commit[:10]}"
    try:
        entry = project.lock_at(committed.commit).get(record.stage)
    except DataError as error:
        yield broken(record.stage, "entry", where, str(error))
        return
    if entry is None:
        yield missing(record.stage, "entry", where, "committed without it")
    elif entry.outputs != _md5s(record.outputs) and project.records.of_lock(entry):
        # As where the run cache restored older outputs after this execution.
        yield missing(record.stage, "entry", where, "committed beside the entry of another execution")
    else:
        yield from _lock(record.stage, where, record, entry)


def _code(project: Project, chain: Chain, step: Step, record: Record, committed: Found | None) -> Iterator[Link]:
    commit, branch = record.code.commit, record.code.branch
    if commit is None:
        yield missing(record.stage, "commit", "git", "the stage ran without git")
        return
    if project.git.commit(commit) is None:
        yield missing(record.stage, "commit", "git", f"this repository has no commit {commit}")
        return
    yield _reachable(project, record.stage, commit, branch)
    for path, md5 in step.inputs.items():
        if chain.maker(path) is None:
            yield _code_input(project, record, path, md5, committed)
    yield _params_at(project, record, commit, committed)
    if chain.here:
        content = _read(project.root / PARAMS_FILE)
        yield _params(record, "workspace", content)
    elif chain.commit:
        yield _params(record, f"git {chain.commit[:10]}", project.git.file(chain.commit, PARAMS_FILE))
        for path, md5 in step.inputs.items():
            if chain.maker(path) is None:
                found = md5_at(project, chain.commit, path)
                yield compared(record.stage, path, f"git {chain.commit[:10]}", md5, found)


def _reachable(project: Project, stage: str, commit: str, branch: str | None) -> Link:
    """The branch that the stage ran on still holds the commit, or some ref does where that branch is gone."""
    name = f"refs/heads/{branch}"
    if project.git.commit(name):
        if project.git.contains(name, commit):
            return Link(stage, "commit", f"branch {branch}", Status.OK)
        tip = project.git.commit(name)
        return broken(stage, "commit", f"branch {branch}", f"expected a history with {commit} found {tip}")
    if project.git.refs_with(commit):
        return Link(stage, "commit", "git", Status.OK)
    return broken(stage, "commit", "git", f"expected a branch or tag with {commit} found none")


def _code_input(project: Project, record: Record, path: str, md5: str, committed: Found | None) -> Link:
    """The code as committed, when the stage ran or, where it was edited, later with the results."""
    commit = record.code.commit
    assert commit is not None
    edited = any(name == path or name.startswith(f"{path}/") for name in record.code.changed)
    if edited:
        later = md5_at(project, committed.commit, path) if committed and committed.commit else None
        if later == md5:
            return Link(record.stage, path, f"git {commit[:10]}", Status.OK)
        return missing(record.stage, path, f"git {commit[:10]}", "had uncommitted changes")
    found = md5_at(project, commit, path)
    if found is None:
        return missing(record.stage, path, f"git {commit[:10]}", "not in git")
    return compared(record.stage, path, f"git {commit[:10]}", md5, found)


def _params_at(project: Project, record: Record, commit: str, committed: Found | None) -> Link:
    edited = PARAMS_FILE in record.code.changed
    if edited and (committed is None or committed.commit is None):
        return missing(record.stage, "params", f"git {commit[:10]}", "had uncommitted changes")
    at = committed.commit if edited and committed and committed.commit else commit
    return _params(record, f"git {at[:10]}", project.git.file(at, PARAMS_FILE))


def _params(record: Record, where: str, content: bytes | None) -> Link:
    """A params file has the values that the stage ran with."""
    if content is None:
        return missing(record.stage, "params", where, f"no {PARAMS_FILE}")
    try:
        found = parse_yaml(content)
        leaves = flatten(found)
    except (yaml.YAMLError, TypeError) as error:
        return broken(record.stage, "params", where, f"expected YAML found {' '.join(str(error).split())}")
    expected = flatten(record.depended)
    return compared_maps(
        record.stage, "params", where, expected, {key: leaves[key] for key in expected if key in leaves}
    )


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.exists() else None
