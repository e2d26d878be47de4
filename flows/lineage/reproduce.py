"""`lineage reproduce`: the stages behind a target run again from its commit, and their outputs compared."""

import os
import subprocess
import sys
from pathlib import Path

from flows.checkout.workspace import WORKSPACE_VARIABLE
from flows.checkout.worktree import detached
from flows.lineage.chain import Chain
from flows.lineage.links import Link, compared, missing
from flows.lineage.lock import parse_lock
from flows.lineage.project import LOCK_FILE, Project
from flows.tracking.send import sender_lock
from transformer.errors import DataError, UserError

FOLDER = Path("work/reproduced")
DOWNLOADS = Path("work/downloads")  # verified sources, which need not be fetched again
STDERR = 2  # the descriptor: progress is no part of the answer
TRACKING = Path("work/tracking")


def commit_of(project: Project, chain: Chain) -> str:
    """The commit to start from: the one asked for, or the first that holds the last stage's record.

    Raises:
        DataError: the results were never committed, and ran on uncommitted changes or without git.
    """
    if not project.git.present:
        raise DataError("reproduce needs git: this folder is no checkout")
    if chain.commit:
        return chain.commit
    step = chain.steps[-1]
    if step.record is None:
        raise DataError(f"{step.stage}: no record tells which commit made {', '.join(step.outputs)}")
    committed = project.records.committed(step.record)
    if committed and committed.commit:
        return committed.commit
    code = step.record.code
    if code.commit is None or code.changed:
        raise DataError(f"{step.stage} ran on changes that were not committed: {', '.join(code.changed) or 'no git'}")
    return code.commit


def reproduce(project: Project, chain: Chain, keep: bool) -> list[Link]:
    """Run the chain's stages again in a worktree, each of them, and compare output by output.

    `keep` leaves the worktree behind.

    Raises:
        UserError: a stage failed, or git or DVC.
    """
    commit = commit_of(project, chain)
    # With the sender's lock held, the runs of a worktree that goes away are not sent anywhere.
    folder = project.root / FOLDER / commit[:10]
    with detached(project.root, folder, commit, keep), sender_lock(folder / TRACKING):
        downloads = project.root / DOWNLOADS
        if downloads.is_dir():
            (folder / DOWNLOADS).symlink_to(downloads)
        stages = [step.stage for step in chain.steps]
        # Forced and without the run cache: restoring old outputs would prove nothing.
        _run(folder, "-m", "dvc", "--wait-for-lock", "repro", "--force", "--no-run-cache", "--single-item", *stages)
        lock = parse_lock((folder / LOCK_FILE).read_bytes(), LOCK_FILE)
        links: list[Link] = []
        for step in chain.steps:
            made = lock[step.stage].outputs
            links += [
                compared(step.stage, path, "reproduced", md5, made[path])
                if path in made
                else missing(step.stage, path, "reproduced", "not made any more")
                for path, md5 in step.outputs.items()
            ]
        return links


def _run(folder: Path, *arguments: str) -> None:
    """Run Python in the worktree, as a user would there, its output on the terminal's stderr.

    Raises:
        UserError: it failed.
    """
    outer = ("PYTHONPATH", WORKSPACE_VARIABLE, "DVC_ROOT", "GIT_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in outer} | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    }
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=environment, stdout=STDERR)
    if done.returncode:
        raise UserError(f"{' '.join(arguments)} failed in {folder} with status {done.returncode}")
