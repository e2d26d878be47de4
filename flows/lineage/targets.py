"""From what a person types to a chain: a folder, file, MLflow run, model version, git revision or experiment."""

import re
from difflib import get_close_matches
from pathlib import Path

from flows.checkout.workspace import LOCK
from flows.lineage.chain import Chain, chain_of_lock, chain_of_record
from flows.lineage.project import Project
from flows.lineage.record_search import EXPERIMENTS, Found
from flows.lineage.run_store import RunInfo
from flows.records.dvc_files import owner_of
from flows.records.hashes import hash_path
from flows.records.record import md5s, parse_record, record_path
from transformer.errors import DataError, ParamsError

RUN = re.compile(r"[0-9a-f]{32}")
MODEL_VERSION = re.compile(r"(?:models:/)?([\w.-]+)(?:/(\d+)|(@[\w.-]+))")
EXPERIMENT = re.compile(rf"{EXPERIMENTS}[0-9a-f]{{2}}/[0-9a-f]{{38}}/[^/]+")
KINDS = (
    "a model folder, a file, an MLflow run, a model version (NAME/NUMBER or NAME@ALIAS), a git revision "
    "or an experiment of DVC's"
)
CLOSE = 3  # names, or files that differ, which an error shows


def resolve(project: Project, target: str | None) -> Chain:
    """The chain behind a target; without one, behind everything that the workspace's dvc.lock lists.

    Raises:
        ParamsError: there is nothing of that name.
        DataError: it exists, but no record and no dvc.lock says who made it.
    """
    if target is None:
        if not project.lock:
            raise DataError(f"{LOCK} is missing: run the pipeline first (dvc repro)")
        outputs = [path for stage in project.lock.values() for path in stage.outputs]
        return chain_of_lock(project, "workspace", project.lock, outputs, None)
    path = _inside(project, target)
    if Path(target).exists():
        if path and any(owner_of(path, stage.outputs) for stage in project.lock.values()):
            return chain_of_lock(project, path, project.lock, [path], None)
        return _by_content(project, target)
    commit = project.git.commit(target) or _experiment(project, target)
    if (match := MODEL_VERSION.fullmatch(target)) and not commit:
        return _by_version(project, target, match[1], match[2] or match[3])
    if RUN.fullmatch(target):
        return _by_run(project, target)
    if commit:  # before the workspace's dvc.lock is read, which has no say in it
        return _by_commit(project, target, commit)
    if path and any(owner_of(path, stage.outputs) for stage in project.lock.values()):
        return chain_of_lock(project, path, project.lock, [path], None)
    raise ParamsError(f"{target!r} is not known here: name {KINDS}{_close_to(project, target)}")


def _experiment(project: Project, name: str) -> str | None:
    """The commit of DVC's experiment of this name, of several the one that started from HEAD.

    Raises:
        ParamsError: several have the name.
    """
    found = {ref: commit for ref, commit in _experiments(project).items() if ref.rpartition("/")[2] == name}
    head = project.git.commit("HEAD") or ""
    of_head = {ref: commit for ref, commit in found.items() if f"/{head[:2]}/{head[2:]}/" in ref}
    known = of_head or found
    if len(known) > 1:
        raise ParamsError(f"{name!r} names {len(known)} experiments: name one of {', '.join(known)}")
    return next(iter(known.values()), None)


def _experiments(project: Project) -> dict[str, str]:
    """The refs of finished experiments: refs/exps/XX/YYY/NAME, where XXYYY is the commit that it started from."""
    refs = project.git.refs(EXPERIMENTS)
    return {ref: commit for ref, commit in refs.items() if EXPERIMENT.fullmatch(ref)}


def _close_to(project: Project, target: str) -> str:
    """The names that the target may be a slip of."""
    refs = {ref: ref.split("/", 2)[2] for ref in project.git.refs("refs/heads", "refs/tags", "refs/remotes")}
    names = [
        *(path for stage in project.lock.values() for path in stage.outputs),
        *refs.values(),
        *(ref.rpartition("/")[2] for ref in _experiments(project)),
        *(project.runs.names() if MODEL_VERSION.fullmatch(target) else ()),
    ]
    close = get_close_matches(target, dict.fromkeys(names), CLOSE)
    return f"; close to it: {', '.join(close)}" if close else ""


def _inside(project: Project, target: str) -> str | None:
    """The target as a path relative to the checkout, if it is one."""
    try:
        return Path(target).resolve().relative_to(project.root).as_posix()
    except ValueError:
        return None


def _by_content(project: Project, target: str) -> Chain:
    hashes = hash_path(Path(target))
    if known := project.records.writer_of(hashes.sha256, hashes.md5):
        return _by_record(project, target, known[0], known[1])
    for stage in project.lock.values():
        for path, md5 in stage.outputs.items():
            if md5 == hashes.md5:
                return chain_of_lock(project, target, project.lock, [path], None)
    unknown = f"{target}: no record and no {LOCK} knows its content (sha256 {hashes.sha256})"
    raise DataError(unknown + _nearest(project, hashes.listing))


def _nearest(project: Project, files: dict[str, str]) -> str:
    """In words: the recorded folder that has most of these files, and those in which it differs."""
    known = ((found, output) for found in project.records.everywhere() for output in found.record.outputs)
    near = max(known, key=lambda one: len(files.items() & one[1].files.items()), default=None)
    common = len(files.items() & near[1].files.items()) if near else 0
    if near is None or not common:
        return ""
    found, output = near
    ended = found.record.ended[:16].replace("T", " ")
    nearest = f": nearest is {output.path} of {found.record.stage}, {ended} ({found.origin})"
    names = sorted(files.keys() | output.files.keys())
    differing = [name for name in names if files.get(name) != output.files.get(name)]
    words = [f"{name} {_how(name, files, output.files)}" for name in differing[:CLOSE]]
    more = [f"and {len(differing) - CLOSE} more"] if len(differing) > CLOSE else []
    return f"{nearest}, with {common} of its {len(output.files)} files: {', '.join([*words, *more])}"


def _how(name: str, here: dict[str, str], recorded: dict[str, str]) -> str:
    return "is not one of its files" if name not in recorded else "is missing" if name not in here else "differs"


def chain_of_content(project: Project, name: str, folder: Path) -> Chain | None:
    """The chain behind a copy of a model folder, called `name`; None if no record knows its content."""
    hashes = hash_path(folder)
    known = project.records.writer_of(hashes.sha256, hashes.md5)
    return chain_of_record(project, name, known[0], [known[1]]) if known else None


def _by_record(project: Project, name: str, found: Found, path: str | None) -> Chain:
    """The workspace's chain if it has exactly these outputs, else one by hashes alone."""
    record = found.record
    targets = [path] if path else [one.path for one in record.outputs]
    locked = project.lock.get(record.stage)
    if locked and locked.outputs == md5s(record.outputs):
        return chain_of_lock(project, name, project.lock, targets, None)
    return chain_of_record(project, name, found, targets)


def _by_version(project: Project, target: str, name: str, number: str) -> Chain:
    version = project.runs.version(name, number)
    if version is None:
        raise DataError(f"{target} is not registered" + _reason(project))
    if version.sha256 and (known := project.records.writer_of(version.sha256)):
        return _by_record(project, target, *known)
    return _by_run(project, version.run, target)


def _by_run(project: Project, run: str, name: str | None = None) -> Chain:
    info = project.runs.run(run)
    if info is None:
        raise DataError(f"MLflow has no run {run}" + _reason(project))
    found = project.records.of_spool(info.tags.get("spool", "")) or _sent_with(project, info)
    if found is None:
        raise DataError(f"run {run} left no lineage record: it did not finish, or was recorded by an older version")
    return _by_record(project, name or run, found, None)


def _sent_with(project: Project, run: RunInfo) -> Found | None:
    text = project.runs.artifact(run, record_path(Path(), run.tags.get("stage", "")).as_posix())
    return Found(parse_record(text, f"MLflow run {run.id}"), f"MLflow run {run.id}") if text else None


def _by_commit(project: Project, target: str, commit: str) -> Chain:
    lock = project.lock_at(commit)
    if not lock:
        raise DataError(f"{target} has no {LOCK}: nothing had been run there")
    outputs = [path for stage in lock.values() for path in stage.outputs]
    return chain_of_lock(project, target, lock, outputs, commit)


def _reason(project: Project) -> str:
    return f": {project.runs.problem}" if project.runs.problem else ""
