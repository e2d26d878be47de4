"""`lineage reproduce`: the stages behind a target run again from its commit, and their outputs compared."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import (
    DOWNLOADS,
    LOCK,
    PARAMS,
    PARENT,
    PARENT_VARIABLE,
    TRACKING,
    WORK,
    WORKSPACE_VARIABLE,
    sender_lock,
)
from flows.checkout.worktree import detached
from flows.lineage.chain import Chain, Step, files_of
from flows.lineage.checks.link import Link, Status, compared, missing, of_parent
from flows.lineage.project import Project
from flows.records.dvc_files import parse_lock
from flows.records.nested_keys import flatten
from transformer.errors import DataError, UserError
from transformer.yaml12 import parse_yaml

FOLDER = f"{WORK}/reproduced"
STDERR = 2  # the file descriptor: progress is not part of the result
TIMES = ("time", "_seconds", "_per_second")  # keys in JSON outputs of older commits that differ from run to run


def commit_of(project: Project, chain: Chain) -> str:
    """The commit to start from: the one that was asked for, or the first that has the last stage's record.

    Raises:
        DataError: the results were never committed, and were made from uncommitted changes or without git.
    """
    if not project.git.present:
        raise DataError("reproduce needs git: this folder is not a git checkout")
    if chain.commit:
        return chain.commit
    step = chain.steps[-1]
    if step.record is None:
        raise DataError(f"{step.stage}: no record says which commit made {', '.join(step.outputs)}")
    committed = project.records.committed(step.record)
    if committed and committed.commit:
        return committed.commit
    code = step.record.code
    if code.commit is None or code.changed:
        raise DataError(f"{step.stage} ran on changes that were not committed: {', '.join(code.changed) or 'no git'}")
    return code.commit


def reproduce(project: Project, chain: Chain, keep: bool) -> list[Link]:
    """Run each of the chain's stages again in a worktree, and compare output by output; its parent's chain first.

    What a parent was is taken from its content: the name that it was asked for by may stand for another model now.
    `keep` leaves the worktree behind.

    Raises:
        UserError: a stage failed, or git or DVC.
    """
    if not chain.steps:
        return [missing("", chain.name, "reproduced", "no record knows who made it")]
    before = [of_parent(link) for link in reproduce(project, chain.parent, keep)] if chain.parent else []
    links = [*before, *_reproduce(project, chain, keep, commit := commit_of(project, chain), "reproduced")]
    head = project.git.commit("HEAD")
    if head and head != commit and (edited := _edited_besides(project, chain, commit, head)):
        told = f"{len(edited)} modules that decide no output are others at HEAD: once more, at {head[:10]}"
        print(told, file=sys.stderr, flush=True)
        links += _reproduce(project, chain, keep, head, "reproduced at HEAD")
    return links


def _edited_besides(project: Project, chain: Chain, commit: str, head: str) -> list[str]:
    """Imported modules that HEAD has otherwise, although its stages and params are those of the commit.

    Such code should decide no output; a cheat in it that was committed, and later taken out, did.
    """
    if any(not _same_at(project, step, commit, head) for step in chain.steps):
        return []  # other outputs are to be expected of HEAD
    ran = {
        path for step in chain.steps if step.record and step.record.executed for path in step.record.executed.modules
    }
    contents = [project.git.blobs(f"{one}:{path}" for path in sorted(ran)) for one in (commit, head)]
    return [path for path, then, now in zip(sorted(ran), *contents, strict=True) if then != now]


def _same_at(project: Project, step: Step, commit: str, head: str) -> bool:
    """Whether both commits define the stage alike, and hold the same code and params for it."""
    then, now = (project.definition(one).get(step.stage) for one in (commit, head))
    code = all(project.md5_at(commit, path) == project.md5_at(head, path) for path in (then.inputs if then else []))
    params = [flatten(parse_yaml(project.git.file(one, PARAMS) or b"", PARAMS)) for one in (commit, head)]
    return then == now and code and all(params[0].get(key) == params[1].get(key) for key in flatten(step.params))


def _reproduce(project: Project, chain: Chain, keep: bool, commit: str, where: str) -> list[Link]:
    use_private_site_cache(project.root)
    # While we hold the sender's lock, the runs in this temporary worktree are not sent to MLflow.
    folder = project.root / FOLDER / commit[:10]
    with detached(project.root, folder, commit, keep), sender_lock(folder / TRACKING):
        downloads = project.root / DOWNLOADS  # verified, and need not be fetched again
        if downloads.is_dir():
            (folder / DOWNLOADS).symlink_to(downloads)
        parent = _parent(project, chain, folder / WORK / "parent")
        stages = [step.stage for step in chain.steps]
        # Forced, and without the run cache: restoring the old outputs would prove nothing.
        _run(
            folder,
            "-m",
            "dvc",
            "--wait-for-lock",
            "repro",
            "--force",
            "--no-run-cache",
            "--single-item",
            *stages,
            parent=parent,
        )
        lock = parse_lock((folder / LOCK).read_bytes(), LOCK)
        links: list[Link] = []
        for step in chain.steps:
            made = lock[step.stage].outputs
            links += [
                _compared(project, folder, Link(step.stage, path, where, Status.OK), md5, made)
                for path, md5 in step.outputs.items()
            ]
        return links


def _compared(project: Project, folder: Path, if_ok: Link, md5: str, made: dict[str, str]) -> Link:
    stage, path, where = if_ok.stage, if_ok.what, if_ok.where
    if path not in made:
        return missing(stage, path, where, "not made any more")
    link = compared(stage, path, where, md5, made[path])
    if link.status is Status.BROKEN and path.endswith(".json"):
        before = project.content(path, md5)
        if before and without_times(json.loads(before)) == without_times(json.loads((folder / path).read_bytes())):
            return replace(if_ok, detail="but for times")
    return link


def without_times(value: Any) -> Any:
    """The content of a JSON output without what depends on the clock."""
    if isinstance(value, list):
        return [without_times(one) for one in value]
    if isinstance(value, dict):
        return {key: without_times(one) for key, one in value.items() if not key.endswith(TIMES)}
    return value


def _parent(project: Project, chain: Chain, folder: Path) -> Path | None:
    """The parent as it was brought, file by file; None if there was none.

    Raises:
        DataError: a file of it is lost.
    """
    files = files_of(project, chain, PARENT) if chain.parent else {}
    for name, md5 in files.items():
        content = project.content(f"{PARENT}/{name}", md5)
        if content is None:
            raise DataError(f"{PARENT}/{name} is lost: dvc fetch --all-commits, then reproduce again")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder if files else None


def _run(folder: Path, *arguments: str, parent: Path | None = None) -> None:
    """Run Python in the worktree, as a user would there, with its output on stderr.

    Raises:
        UserError: it failed.
    """
    outer = ("PYTHONPATH", WORKSPACE_VARIABLE, "DVC_ROOT", "GIT_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in outer} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    if parent:
        environment[PARENT_VARIABLE] = str(parent.resolve())
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=STDERR)
    if done.returncode:
        raise UserError(f"{' '.join(arguments)} failed in {folder} with status {done.returncode}")
