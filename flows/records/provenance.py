"""Which code a stage runs, and what started it."""

import datetime
import hashlib
import os
from pathlib import Path

import psutil

from flows.checkout.git import Git
from flows.checkout.workspace import LOCK, REPORTS
from flows.records.record import Code

# The flow sets these for a stage: the flow run and task run that it belongs to.
FLOW_RUN_VARIABLE = "PIPELINE_FLOW_RUN_ID"
TASK_RUN_VARIABLE = "PIPELINE_TASK_RUN_ID"


def code_state() -> Code:
    """The commit, its branch and what differs from it in the working folder; of untracked files only the names count.

    An untracked module that matters to a stage is one of its inputs and hashed there. What the pipeline itself
    rewrites (dvc.lock, reports) is left out.
    """
    git = Git(Path())
    commit = git.run("rev-parse", "HEAD")
    if commit is None:
        return Code(commit=None, branch=None, changes=None, changed=[])
    code = (".", f":(exclude){LOCK}", f":(exclude){REPORTS}")
    status = git.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *code) or b""
    changed = sorted(entry[3:].decode(errors="replace") for entry in status.split(b"\0") if entry)
    difference = (git.run("diff", "HEAD", "--binary", "--", *code) or b"") + status
    return Code(
        commit=commit.decode().strip(),
        branch=(git.run("rev-parse", "--abbrev-ref", "HEAD") or b"").decode().strip() or None,
        changes=hashlib.sha256(difference).hexdigest() if changed else None,
        changed=changed,
    )


def pipeline_id() -> str:
    """One name for all stages that were started together: Prefect's flow run, or the `dvc` process above them.

    A stage that was started by hand is a pipeline of its own.
    """
    if flow_run := os.environ.get(FLOW_RUN_VARIABLE):
        return flow_run
    me = psutil.Process()
    process = next((parent for parent in me.parents() if _is_dvc(parent)), me)
    created = datetime.datetime.fromtimestamp(process.create_time(), datetime.UTC)
    return f"{created:%Y%m%dT%H%M%S}-{process.pid}"


def _is_dvc(process: psutil.Process) -> bool:
    try:
        command = process.cmdline()
    except psutil.Error:
        return False
    return any(Path(word).name == "dvc" for word in command[:3])  # `dvc …`, `python …/dvc …`, `python -m dvc …`
