"""Brings the outputs of stages back to what dvc.lock says, from DVC's cache or git, and touches nothing else.

DVC checks out whatever its cache holds without looking at it: an object with a wrong byte becomes an output that is
called up to date. Here every byte is hashed before it is used; a damaged object is taken out of the cache, so that
`dvc repro` computes it again.
"""

from dataclasses import dataclass, field
from pathlib import Path

from flows.checkout.workspace import DEFINITION, LOCK
from flows.records.dvc_files import LockedStage, parse_definition, read_lock
from flows.records.hashes import hash_tracked
from flows.records.record import Artifact
from flows.restore.copies import Copies
from transformer.errors import DataError, ParamsError


@dataclass
class Restored:
    """What was done, in words, and the stages that have to run again."""

    lines: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def restore(root: Path, stages: list[str]) -> Restored:
    """Bring the outputs of these stages (none: of all that have run) back to what dvc.lock says.

    Raises:
        ParamsError: there is no such stage, or it has never run.
        DataError: dvc.yaml or dvc.lock is malformed.
        OSError: the disk is full or not writable.
    """
    lock = locked_stages(root)
    for name in stages:
        if name not in lock:
            raise ParamsError(_unknown(root, name))
    copies, found = Copies(root), Restored()
    for name in stages or lock:
        _restore_stage(copies, lock[name], found)
    return found


def locked_stages(root: Path) -> dict[str, LockedStage]:
    """The stages of the workspace's dvc.lock; none if nothing has been run yet.

    Raises:
        DataError: it is malformed.
    """
    return read_lock(root / LOCK)


def _unknown(root: Path, name: str) -> str:
    known = parse_definition((root / DEFINITION).read_bytes(), DEFINITION)
    if name in known:
        return f"stage {name} has not run yet: there is nothing to bring back"
    return f"{name} is not a stage; {DEFINITION} has {', '.join(known)}"


def _restore_stage(copies: Copies, stage: LockedStage, found: Restored) -> None:
    back, lost = [], []
    for path, md5 in stage.outputs.items():
        here = copies.root / path
        if here.exists() and hash_tracked(here).md5 == md5:
            copies.find(stage.name, path, md5)  # for the sake of the cache
        elif copies.bring_back(stage.name, path, md5):
            back.append(path)
        else:
            lost.append(path)
    found.lines += copies.told
    copies.told.clear()
    if back:
        found.lines.append(f"{stage.name}: {', '.join(back)} as of the last run")
    if lost:
        found.lost.append(stage.name)
        found.lines.append(
            f"{stage.name}: no whole copy of {', '.join(lost)} is left here: dvc pull, or dvc repro {stage.name}"
        )


def discard_damaged(root: Path) -> list[str]:
    """Take damaged objects out of DVC's cache before DVC restores outputs from them; says what was done.

    Looked at are outputs that are not in the workspace: DVC would take them from the cache.

    Raises:
        DataError: dvc.lock is malformed.
    """
    lock = locked_stages(root)
    if not lock:
        return []
    copies = Copies(root)
    for name, stage in lock.items():
        for path, md5 in stage.outputs.items():
            copies.discard_damaged(name, path, md5)
    return copies.told


def check_outputs(root: Path, stages: list[str] | None = None) -> None:
    """Hash the outputs of these stages (default: of all) that are in the workspace.

    Raises:
        DataError: one is not what dvc.lock says; dvc.lock is malformed.
    """
    for name, stage in locked_stages(root).items():
        for path, md5 in stage.outputs.items():
            if (stages is None or name in stages) and (root / path).exists() and hash_tracked(root / path).md5 != md5:
                raise DataError(damaged(path, name))


def check_inputs(root: Path, inputs: list[Artifact]) -> None:
    """Refuse inputs that are not what the stage before has written, by dvc.lock.

    Raises:
        DataError: names the input and the cure.
    """
    for name, stage in locked_stages(root).items():
        for one in inputs:
            if one.path in stage.outputs and one.md5 != stage.outputs[one.path]:
                raise DataError(damaged(one.path, name))


def damaged(path: str, stage: str) -> str:
    """What is wrong and the cure, in one line."""
    return (
        f"{path} is not what stage {stage} wrote (dvc.lock): `python -m flows.restore {stage}` brings back a whole "
        f"copy, or makes dvc repro compute it again; edited on purpose: dvc commit {stage}"
    )
