"""One execution of a stage, as it becomes a record: inputs are hashed before the work, outputs after it."""

import os
from datetime import UTC, datetime
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from flows.records.dvc_files import StageDefinition
from flows.records.hashes import hash_tracked
from flows.records.imports import imported
from flows.records.installed import files_digest, installed_files, interpreter_sha256, strangers
from flows.records.machine import this_machine, threads
from flows.records.plumbing import OF_A_PARENT, is_known
from flows.records.provenance import FLOW_RUN_VARIABLE, TASK_RUN_VARIABLE, code_state
from flows.records.record import COMPUTE, Artifact, Executed, Record, Runs
from transformer.params import Params


class Execution:
    """What is known of a stage while it runs."""

    def __init__(self, files: StageDefinition, params: Params) -> None:
        self.started = _now()
        self.files = files
        self.code = code_state()
        self.machine = this_machine()
        self.inputs = hash_existing(files.inputs)
        self.measured: dict[str, Any] = {}
        self.params = named_params(params, [*files.params, COMPUTE])
        self._seed = self.params.get("training", {}).get("seed")

    def finished(self, spool: str | None) -> Record:
        """The record of the stage, whose outputs are complete; `spool` names the run that MLflow gets."""
        machine = self.machine.model_copy(update={"threads": threads()})  # torch may have been loaded since
        return Record.sealed(
            {
                "stage": self.files.name,
                "command": self.files.command,
                "code": self.code.model_dump(),
                "params": self.params,
                "seed": self._seed,
                "inputs": [one.model_dump() for one in self.inputs],
                "outputs": [one.model_dump() for one in hash_existing(self.files.outputs)],
                "machine": machine.model_dump(),
                "started": self.started,
                "ended": _now(),
                "measured": self.measured,
                "executed": executed(self.files).model_dump(),
                "runs": Runs(
                    spool=spool,
                    mlflow=None,
                    prefect_flow_run=os.environ.get(FLOW_RUN_VARIABLE) or None,
                    prefect_task_run=os.environ.get(TASK_RUN_VARIABLE) or None,
                ).model_dump(),
            }
        )


def executed(files: StageDefinition) -> Executed:
    """The code that has run by now."""
    modules = imported()
    files_of_pip = installed_files(distributions())
    altered, foreign = strangers(files_of_pip)
    declared = [*files.inputs, *(OF_A_PARENT if files.name == "parent" else ())]
    return Executed(
        modules=modules,
        undeclared=[path for path in modules if not is_known(path, declared)],
        altered=altered,
        strangers=foreign,
        python_path=list(filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))),
        installed=files_digest(files_of_pip),
        interpreter=interpreter_sha256(),
    )


def named_params(params: Params, names: list[str]) -> dict[str, dict[str, Any]]:
    """The params that are named, as whole sections or as single keys (`section.key`)."""
    content, named = params.model_dump(), dict[str, dict[str, Any]]()
    for name in names:
        section, _, key = name.partition(".")
        named.setdefault(section, {}).update({key: content[section][key]} if key else content[section])
    return named


def hash_existing(paths: list[str]) -> list[Artifact]:
    """The artifacts that exist, hashed."""
    return [Artifact.of(path, hash_tracked(Path(path))) for path in paths if Path(path).exists()]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
