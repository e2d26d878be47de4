"""Who signed each record: the envelope beside it, in the workspace, at its commit and in MLflow, by signers.yaml."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.lineage.chain import Chain, Step
from flows.lineage.checks.link import Link, Status, broken, missing
from flows.lineage.checks.mlflow_runs import run_of
from flows.lineage.project import Project
from flows.records.record import Record, parse_record, record_path
from flows.signatures.envelope import envelope_name, opened
from flows.signatures.log import Log
from flows.signatures.policy import POLICY, Policy, parse_policy
from flows.signatures.statement import described, line_of
from transformer.errors import DataError

SIGNATURE, BY = "signature", "by "
STRIPPED = "the log says that it was signed, and its envelope is gone"


def signer_in(link: Link) -> str:
    """Who signed, by a link that is ok."""
    return link.detail.removeprefix(BY)


def policy_of(project: Project, commit: str | None) -> tuple[Policy | None, list[Link]]:
    """The signers.yaml of HEAD or another commit, the workspace's where none is committed; what is wrong with it."""
    at = commit or project.git.commit("HEAD")
    text, where, links = project.git.file(at, POLICY) if at else None, "git", list[Link]()
    file = project.root / POLICY
    if commit is None:
        here = file.read_bytes() if file.is_file() else None
        if here != text and project.git.present:
            counts = "what is committed counts" if text is not None else "anybody may have written it"
            links.append(missing("", POLICY, "git", f"not committed yet: {counts}"))
        if text is None:
            text, where = here, "workspace"
    if text is None:
        return None, links
    try:
        return parse_policy(text, POLICY, list(project.definition(commit))), links
    except DataError as error:
        return None, [*links, broken("", POLICY, where, str(error))]


def check_signatures(project: Project, chain: Chain, policy: Policy | None) -> Iterator[Link]:
    """Every envelope of every step's record; `unsigned` for one that has none anywhere."""
    for step in chain.steps:
        if chain.here:
            yield from _of_another(project, step, policy)
        if step.found is None:
            continue
        places = list(_places(project, chain, step))
        yield from (judged(where, text, step.found.record, policy, log) for where, text, log in places)
        if not places:
            yield _without(project, chain, step)


def _places(project: Project, chain: Chain, step: Step) -> Iterator[tuple[str, str | bytes, Log | None]]:
    """Where an envelope lies beside the step's record: (the place, its text, the log there)."""
    assert step.found is not None
    record, name = step.found.record, envelope_name(step.stage)
    if chain.here and step.found.origin == "workspace" and (project.root / name).is_file():
        yield "workspace", (project.root / name).read_bytes(), project.logs.workspace
    if at := commit_of(project, chain, record):
        if text := project.git.file(at, name):
            yield f"git {at[:10]}", text, project.logs.at(at)
        elif text := _committed_later(project, name, record):
            yield "git", text, None
    if (run := run_of(project, record)) and (sent := project.runs.artifact(run, name)):
        yield f"MLflow run {run.id[:8]}", sent, None


def commit_of(project: Project, chain: Chain, record: Record) -> str | None:
    """The commit that holds the record: the one that was asked for if it does, else the first."""
    if chain.commit:
        text = project.git.file(chain.commit, record_path(Path(), record.stage).as_posix())
        try:
            if text and parse_record(text, "").digest == record.digest:
                return chain.commit
        except DataError:
            pass
    found = project.records.committed(record, project.tip(chain))
    return found.commit if found else None


def _committed_later(project: Project, name: str, record: Record) -> bytes | None:
    """The envelope of this record in any commit: the record may have been committed without it."""
    blobs = project.git.blobs(blob for _, path, blob in project.git.versions(name) if path == name)
    for text in filter(None, blobs):
        try:
            if _differences(opened(text, name).statement, record) is None:
                return text
        except DataError:
            continue
    return None


def _of_another(project: Project, step: Step, policy: Policy | None) -> Iterator[Link]:
    """The workspace's envelope where its record is of another execution than the step's, or is lost."""
    name, path = envelope_name(step.stage), record_path(project.root, step.stage)
    if not (project.root / name).is_file() or (step.found and step.found.origin == "workspace"):
        return
    try:
        record = parse_record(path.read_bytes(), path.name)
    except (FileNotFoundError, DataError):
        yield broken(step.stage, SIGNATURE, "workspace", f"{name} has no record beside it")
        return
    link = judged("workspace", (project.root / name).read_bytes(), record, policy, project.logs.workspace)
    if link.status is Status.BROKEN:
        yield link


def _without(project: Project, chain: Chain, step: Step) -> Link:
    """No envelope was found: the record never had one, or has lost it."""
    assert step.found is not None
    record = step.found.record
    for where, log in project.logs.beside(step.found, chain.here, project.tip(chain)):
        if any(entry.signer for entry in log.of(record)):
            return broken(step.stage, SIGNATURE, where, STRIPPED)
    return Link(step.stage, SIGNATURE, "record", Status.UNSIGNED)


def judged(where: str, text: str | bytes, record: Record, policy: Policy | None, log: Log | None) -> Link:
    """Whether the envelope is of this record, of its line in the log, and of somebody who may sign the stage."""
    stage = record.stage
    try:
        found = opened(text, envelope_name(stage))
        if difference := _differences(found.statement, record):
            return broken(stage, SIGNATURE, where, difference)
        if log is not None and line_of(found.statement) not in log.entries:
            return broken(stage, SIGNATURE, where, "the line of the log that it was signed with is gone or rewritten")
        if policy is None:
            why = f"signed, but there is no {POLICY} to say by whom" if found.envelope.signatures else ""
            return Link(stage, SIGNATURE, where, Status.UNSIGNED, why)
        name = policy.signer_of(found.envelope)
    except DataError as error:
        return broken(stage, SIGNATURE, where, str(error))
    if not policy.signers[name].may_sign(stage):
        return broken(stage, SIGNATURE, where, f"{name} may not sign the stage {stage} ({POLICY})")
    return Link(stage, SIGNATURE, where, Status.OK, f"{BY}{name}")


def _differences(statement: dict[str, Any], record: Record) -> str | None:
    """How the statement contradicts the record; None if it does not."""
    try:
        predicate = statement["predicate"]
        definition, details = predicate["buildDefinition"], predicate["runDetails"]
        signed = details["byproducts"][0]["digest"]["sha256"]
        stage = definition["externalParameters"]["stage"]
        line_of(statement)
        materials = [one for one in definition["resolvedDependencies"] if "gitCommit" not in one["digest"]]
        made = statement["subject"]
    except (KeyError, TypeError, IndexError) as error:
        return f"its statement is not about a stage: {type(error).__name__} {error}"
    if stage != record.stage:
        return f"expected the stage {record.stage} found {stage}"
    if signed != record.expected_digest:
        return f"expected the record {record.expected_digest} found {signed}"
    for what, expected, found in (
        ("outputs", described(record.outputs), made),
        ("inputs", described(record.inputs), materials),
    ):
        if expected != found:
            return f"expected the record's {what} found others"
    return None
