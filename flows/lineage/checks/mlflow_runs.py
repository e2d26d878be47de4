"""Does MLflow agree: each step's run with its tags, and the registered copies of the model?"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flows.checkout.workspace import TRACKING
from flows.lineage.chain import Chain
from flows.lineage.checks.link import Link, compared, compared_maps, missing
from flows.lineage.checks.mlflow_numbers import check_numbers
from flows.lineage.checks.registered import check_champion, check_files
from flows.lineage.project import Project
from flows.lineage.run_store import ModelVersion, RunInfo
from flows.records import tags
from flows.records.nested_keys import as_texts
from flows.records.record import Artifact, Record, digest_of, record_path
from transformer.errors import DataError

SEND = "python -m flows.tracking.send --wait"
NAME_STORE = "MLFLOW_TRACKING_URI=ADDRESS lineage verify"  # of the server that has the runs


def check_runs(project: Project, chain: Chain) -> Iterator[Link]:
    """Each record's run, and every registered version that a step made or that claims its output."""
    sent = _sent(project, chain)
    for step in chain.steps if not project.runs.problem else ():
        if step.record is None:
            continue
        run = run_of(project, step.record)
        if run:
            yield from _run(project, step.record, run)
            yield from check_numbers(project, step.record, run, sent)
        elif not project.runs.problem:
            yield _no_run(project, step.record)
        yield from _versions(project, step.record, run)
    if project.runs.problem:
        waits = any(_waits(project, step.record) for step in chain.steps if step.record)
        do = SEND if waits else NAME_STORE
        yield missing(
            "", "runs and registered models", "MLflow", project.runs.problem, do, f"MLflow ({project.runs.problem})"
        )


def _no_run(project: Project, record: Record) -> Link:
    """The run was not sent yet, or went to another store than this clone's own; a server should have it."""
    why = f"no run has the spool {record.runs.spool}"
    if _waits(project, record):
        return missing(record.stage, "run", "MLflow", why, SEND)
    beyond = "runs that this clone's MLflow store has not" if project.runs.own else ""
    return missing(record.stage, "run", "MLflow", why, NAME_STORE if beyond else "", beyond)


def _waits(project: Project, record: Record) -> bool:
    """Whether the run is still to be sent from this workspace."""
    return record.runs.spool is not None and (project.runs.root / TRACKING / record.runs.spool).exists()


def _sent(project: Project, chain: Chain) -> set[str]:
    """What dvc.yaml calls metrics or plots, which each run has as files."""
    try:
        return {path for stage in project.definition(chain.commit).values() for path in stage.reports}
    except DataError:
        return set()  # the check of dvc.yaml itself says so


def run_of(project: Project, record: Record) -> RunInfo | None:
    """The run of the execution, by its id or its spool."""
    if record.runs.mlflow and (run := project.runs.run(record.runs.mlflow)):
        return run
    tagged = project.runs.runs_tagged("spool", record.runs.spool or "")
    return tagged[0] if tagged else None


def _run(project: Project, record: Record, run: RunInfo) -> Iterator[Link]:
    where = f"MLflow run {run.id[:8]}"
    if record.runs.mlflow:
        yield compared(record.stage, "run id", where, record.runs.mlflow, run.id)
    expected = {
        "stage": record.stage,
        "spool": record.runs.spool,
        "git.commit": record.code.commit or tags.NO_GIT,
        tags.RECORD: record.digest,
        **tags.hash_tags("input", record.inputs),
        **tags.hash_tags("output", record.outputs),
    }
    kept = {key: value for key, value in run.tags.items() if key in expected or key.startswith(("input.", "output."))}
    yield compared_maps(record.stage, "tags", where, expected, kept)
    yield compared(record.stage, "status", where, "FINISHED", run.status)
    yield compared_maps(record.stage, "params", where, as_texts(record.params), run.params)
    name = record_path(Path(), record.stage).as_posix()
    text = project.runs.artifact(run, name)
    if text is None:
        yield missing(record.stage, name, where, "not there")
    else:
        yield compared(record.stage, name, where, record.digest, _digest(text))


def _digest(text: str) -> str:
    """The digest computed from a record's text, whatever digest it states."""
    try:
        content = json.loads(text)
        del content["digest"]
        return digest_of(content)
    except (ValueError, KeyError, TypeError) as error:
        return f"not a record ({type(error).__name__})"


def _versions(project: Project, record: Record, run: RunInfo | None) -> Iterator[Link]:
    """Found by the run that made them and by the hash in their tag, since either may have been changed."""
    found = {(one.name, one.version): one for one in project.runs.versions("run_id", run.id)} if run else {}
    outputs = {one.sha256: one for one in record.outputs if one.files}
    for sha256 in outputs:
        found |= {(one.name, one.version): one for one in project.runs.versions("tags.sha256", sha256)}
    for name in sorted({name for name, _ in found}):
        yield from check_champion(project, record.stage, name)
    for version in found.values():
        output = outputs.get(version.sha256 or "") or next(iter(outputs.values()), None)
        if output is not None:
            own = run is not None and version.run == run.id
            yield from _version(project, record, output, version, own)


def _version(project: Project, record: Record, output: Artifact, version: ModelVersion, own: bool) -> Iterator[Link]:
    """`own`: the record's run made it; else another one made an equal model, maybe with other code."""
    stage = record.stage
    where = f"registered {version.name}/{version.version}"
    yield compared(stage, output.path, f"{where}, its tag", output.sha256, version.sha256, "sha256")
    source = project.runs.run(version.run)
    if source is None:
        yield missing(stage, "run", where, f"MLflow has no run {version.run}")
    else:
        tag = source.tags.get(f"output.{output.path}", "nothing")
        yield compared(stage, "run", where, output.sha256, tag, f"output of run {version.run[:8]}")
    recorded = None if record.code.changed else record.code.commit
    with tempfile.TemporaryDirectory() as folder:
        path = project.runs.fetch(version.artifacts, Path(folder))
        commit = recorded if own else _commit_of(source)
        yield from check_files(project, record, output, version, path, commit)


def _commit_of(run: RunInfo | None) -> str | None:
    """The commit that a run says that it was made at, if nothing was uncommitted."""
    return run.tags.get("git.commit") if run and run.tags.get("git.dirty") == "false" else None
