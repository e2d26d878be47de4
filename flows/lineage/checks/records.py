"""Do a step's record, dvc.lock and dvc.yaml agree, as they are now and as they were committed?"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from flows.checkout.workspace import DEFINITION, LOCK
from flows.lineage.chain import Chain, Step
from flows.lineage.checks.commits import BEYOND_SHALLOW, COMMIT_ALL, UNSHALLOW
from flows.lineage.checks.link import Link, broken, compared, compared_maps, missing
from flows.lineage.project import Project
from flows.lineage.record_search import Found
from flows.records.dvc_files import LockedStage
from flows.records.nested_keys import flatten
from flows.records.record import Record, md5s, parse_record, record_path
from transformer.errors import DataError


def check_records(project: Project, chain: Chain) -> Iterator[Link]:
    """Each step's record, its entry in dvc.lock, and its definition in dvc.yaml."""
    head = _head_lock(project) if chain.here else {}
    yield from _absent_stages(project, chain, head)
    for step in chain.steps:
        if chain.here:
            yield from _workspace_record(project, step)
        yield from _definition(project, chain, step)
        if step.found is None:
            yield from _unexplained(project, chain, step, head.get(step.stage))
            continue
        record = step.found.record
        yield compared(step.stage, "record", "its digest", record.expected_digest, record.digest)
        yield from _told_twice(project, chain, step.found)
        if step.locked:
            yield from _lock(step.stage, LOCK, record, step.locked)
        if project.git.present:
            yield from _committed_record(project, chain, step.found)


def _head_lock(project: Project) -> dict[str, LockedStage]:
    try:
        return project.lock_at("HEAD")
    except DataError:
        return {}  # the check of the committed records reports it


def _absent_stages(project: Project, chain: Chain, head: dict[str, LockedStage]) -> Iterator[Link]:
    """Stages that HEAD's dvc.lock has and the workspace's has lost: without them the chain is cut short."""
    for name in head if chain.here else ():
        if name not in project.lock:
            yield broken(name, "entry", LOCK, "expected the stage that HEAD has found nothing")


def _unexplained(project: Project, chain: Chain, step: Step, head: LockedStage | None) -> Iterator[Link]:
    """No record has the outputs of dvc.lock.

    If HEAD's dvc.lock has others, which DVC's run cache doesn't have either, or if an execution that read the same
    made others, they were edited.
    """
    shallow = project.git.shallow
    do, beyond = (UNSHALLOW, BEYOND_SHALLOW) if shallow else (f"dvc repro --force --single-item {step.stage}", "")
    yield missing(step.stage, "record", "workspace, git, MLflow", f"no record has the outputs of {LOCK}", do, beyond)
    restored = step.locked is not None and project.stores.was_run(step.locked)  # by DVC, though no record is left
    if head and not restored:
        yield compared_maps(step.stage, "outputs", f"{LOCK} at HEAD", head.outputs, step.outputs)
    for found in project.records.of_stage(step.stage, chain.commit):
        same = (md5s(found.record.inputs), found.record.command) == (step.inputs, step.command)
        if same and flatten(found.record.depended) == flatten(step.params):
            where = f"the record of the same inputs, {found.origin}"
            yield compared_maps(step.stage, "outputs", where, md5s(found.record.outputs), step.outputs)
            return


def _told_twice(project: Project, chain: Chain, one: Found) -> Iterator[Link]:
    """Whatever other copy there is of the same execution's record, it says the same."""
    for other in project.records.copies(one.record, chain.commit):
        found = other.record.expected_digest
        if found != one.record.expected_digest:
            where = f"{one.origin} and {other.origin}"
            yield broken(one.record.stage, "record", where, f"two of one execution: {one.record.digest} and {found}")
            return


def _workspace_record(project: Project, step: Step) -> Iterator[Link]:
    """The record in the workspace, of this execution or another, is intact and the same as in git."""
    path = record_path(project.root, step.stage)
    name = path.relative_to(project.root).as_posix()
    committed = project.git.file("HEAD", name) if project.git.present else None
    if not path.exists():
        if committed is not None:
            yield missing(step.stage, name, "workspace", "not there, though git has it", f"git restore {name}")
        return
    try:
        record = parse_record(path.read_bytes(), name)
    except DataError as error:
        yield broken(step.stage, name, "workspace", str(error))
        return
    yield compared(step.stage, name, "its stage", step.stage, record.stage)
    yield compared(step.stage, name, "its digest", record.expected_digest, record.digest)
    try:
        head = [parse_record(committed, f"{name} at HEAD")] if committed is not None else []
    except DataError as error:
        yield broken(step.stage, name, "git", str(error))
        return
    known = [*head, *(found.record for found in project.records.history())]
    same = [one.digest for one in known if one.runs.spool == record.runs.spool]  # others are other executions'
    if same:
        other = next((digest for digest in same if digest != record.digest), record.digest)
        yield compared(step.stage, name, "git", other, record.digest)


def _definition(project: Project, chain: Chain, step: Step) -> Iterator[Link]:
    """dvc.yaml still defines the stage that ran."""
    if not chain.here and chain.commit is None:
        return
    try:
        stage = project.definition(chain.commit).get(step.stage)
    except DataError as error:
        yield broken(step.stage, DEFINITION, "its definition", str(error))
        return
    if stage is None:
        yield broken(step.stage, DEFINITION, "its definition", "expected the stage found nothing")
        return
    yield compared(step.stage, f"command in {DEFINITION}", "its definition", step.command, stage.command)
    for what, expected, found in (
        ("deps", step.inputs, stage.inputs),
        ("outs", step.outputs, stage.outputs),
        ("params", _named_as_in(stage.params, flatten(step.params)), stage.params),
    ):
        listed = (dict.fromkeys(sorted(names), "it") for names in (expected, found))
        yield compared_maps(step.stage, f"{what} in {DEFINITION}", "its definition", *listed)


def _named_as_in(names: list[str], leaves: Iterable[str]) -> set[str]:
    """For each param the name under which dvc.yaml lists it, its section's or its own; else its own."""
    return {next((name for name in names if f"{leaf}.".startswith(f"{name}.")), leaf) for leaf in leaves}


def _lock(stage: str, where: str, record: Record, entry: LockedStage) -> Iterator[Link]:
    """An entry of a dvc.lock says what the record says."""
    yield compared(stage, "command", where, record.command, entry.command)
    yield compared_maps(stage, "inputs", where, md5s(record.inputs), entry.inputs)
    yield compared_maps(stage, "outputs", where, md5s(record.outputs), entry.outputs)
    yield compared_maps(stage, "params", where, flatten(record.depended), flatten(entry.params))


def _committed_record(project: Project, chain: Chain, found: Found) -> Iterator[Link]:
    record = found.record
    committed = project.records.committed(record, project.tip(chain))
    if committed is None or committed.commit is None:
        yield _not_committed(project, chain, found)
        return
    yield compared(record.stage, "record", "git", committed.record.digest, record.digest)
    where = f"{LOCK} at {committed.commit[:10]}"
    try:
        entry = project.lock_at(committed.commit).get(record.stage)
    except DataError as error:
        yield broken(record.stage, "entry", where, str(error))
        return
    if entry is None:
        yield missing(record.stage, "entry", where, "committed without it")
    elif entry.outputs != md5s(record.outputs) and project.records.of_lock(entry, chain.commit):
        # For instance the run cache restored older outputs after this execution.
        yield missing(record.stage, "entry", where, "committed beside the entry of another execution")
    else:
        yield from _lock(record.stage, where, record, entry)


def _not_committed(project: Project, chain: Chain, found: Found) -> Link:
    """What an experiment, another branch, a stash or the reflog holds is not committed where it was looked for."""
    record = found.record
    elsewhere = project.records.held_by(record)
    held = f": only {elsewhere} has it" if elsewhere else ""
    if chain.here:
        path = record_path(Path(), record.stage).as_posix()
        brought = (
            f"git restore --source={str(found.commit)[:10]} {path} && git commit --all"  # restored outputs have none
        )
        return missing(
            record.stage, "record", "git", f"not committed yet{held}", brought if found.commit else COMMIT_ALL
        )
    if project.git.shallow:
        return missing(record.stage, "record", "git", "not in this shallow clone", UNSHALLOW, BEYOND_SHALLOW)
    where = f" in the history of {chain.commit[:10]}" if chain.commit else ""
    return missing(record.stage, "record", "git", f"not committed{where}{held}")
