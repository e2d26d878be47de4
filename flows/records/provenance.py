"""What joins runs by content: the stage's inputs and outputs by hash, the code's commit, the machine."""

import datetime
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from flows.checkout.git import Git
from flows.records.dvc_yaml import parse_yaml
from flows.records.record import Artifact, Code, Machine
from transformer.params import Params

# How the flow tells a stage which of its runs it is.
FLOW_RUN_VARIABLE = "PIPELINE_FLOW_RUN_ID"
TASK_RUN_VARIABLE = "PIPELINE_TASK_RUN_ID"

NO_GIT = "no git"
# Files that running the pipeline itself changes; they say nothing about the code.
NOT_CODE = ("dvc.lock", "reports")


@dataclass(frozen=True)
class StageFiles:
    """A stage as dvc.yaml defines it: the paths of what it reads and writes and the params it depends on."""

    name: str
    command: str
    inputs: list[str]
    outputs: list[str]
    reports: list[str]  # those of `outputs` that are metrics or plots
    params: list[str]

    @classmethod
    def read(cls, name: str, definition: Path = Path("dvc.yaml")) -> "StageFiles":
        """The stage `name` of `definition`."""
        return cls.parse(name, definition.read_bytes())

    @classmethod
    def parse(cls, name: str, definition: bytes) -> "StageFiles":
        """The stage `name` of a dvc.yaml's content."""
        stage = parse_yaml(definition)["stages"][name]
        reports = _paths(stage.get("metrics", [])) + _paths(stage.get("plots", []))
        outputs = _paths(stage.get("outs", [])) + reports
        return cls(name, stage["cmd"], _paths(stage.get("deps", [])), outputs, reports, stage.get("params", []))


def _paths(entries: list[Any]) -> list[str]:
    """Paths of dvc.yaml entries, which are either a path or {path: options}."""
    return [next(iter(entry)) if isinstance(entry, dict) else entry for entry in entries]


def hash_tags(kind: str, artifacts: list[Artifact]) -> dict[str, str]:
    """`<kind>.<path>`: SHA-256 of each artifact."""
    return {f"{kind}.{one.path}": one.sha256 for one in artifacts}


def named_params(params: Params, names: list[str]) -> dict[str, dict[str, Any]]:
    """The sections named, or of a section the keys named as `section.key`."""
    content, named = params.model_dump(), dict[str, dict[str, Any]]()
    for name in names:
        section, _, key = name.partition(".")
        named.setdefault(section, {}).update({key: content[section][key]} if key else content[section])
    return named


def as_texts(tree: dict[str, Any]) -> dict[str, str]:
    """The leaves of nested dicts under dotted keys, as MLflow keeps params."""
    leaves = flatten(tree).items()
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in leaves}


def flatten(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts under dotted keys."""
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        leaves.update(flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return leaves


def code_state() -> Code:
    """The commit, its branch and what differs from it here; untracked files count by name.

    An untracked module that matters to a stage is one of its inputs and hashed there.
    """
    git = Git(Path())
    commit = git.run("rev-parse", "HEAD")
    if commit is None:
        return Code(commit=None, branch=None, changes=None, changed=[])
    code = (".", *(f":(exclude){path}" for path in NOT_CODE))
    status = git.run("status", "--porcelain", "-z", "--no-renames", "--untracked-files=all", "--", *code) or b""
    changed = sorted(entry[3:].decode(errors="replace") for entry in status.split(b"\0") if entry)
    difference = (git.run("diff", "HEAD", "--binary", "--", *code) or b"") + status
    return Code(
        commit=commit.decode().strip(),
        branch=(git.run("rev-parse", "--abbrev-ref", "HEAD") or b"").decode().strip() or None,
        changes=hashlib.sha256(difference).hexdigest() if changed else None,
        changed=changed,
    )


def code_tags(code: Code) -> dict[str, str]:
    """Commit, branch and whether the checkout differs from the commit; "no git" outside a git checkout."""
    if code.commit is None:
        return {"git.commit": NO_GIT, "git.branch": NO_GIT, "git.dirty": NO_GIT}
    branch = code.branch or NO_GIT
    return {
        "git.commit": code.commit,
        "git.branch": branch,
        "git.dirty": "true" if code.changes else "false",
        "mlflow.source.git.commit": code.commit,
        "mlflow.source.git.branch": branch,
    }


def host_tags(machine: Machine) -> dict[str, str]:
    """The machine and the versions that matter for the result."""
    return {
        "host.platform": machine.os,
        "host.python": machine.python,
        "host.torch": machine.packages["torch"],
        "host.cpus": str(machine.cores),
        "host.gpus": ", ".join(machine.gpus) or "none",
    }


def pipeline_id() -> str:
    """Names what started this stage, so that the stages of one run are found together: Prefect's flow run, or `dvc`.

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
