"""The record that each executed stage leaves: hashes of what it read and wrote, code, params, machine and times.

Ids, times and the machine change with every run, so it is not an output of DVC; it is committed to git beside
dvc.lock. Its digest covers everything but the MLflow run id, which is known only once the record has been sent.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.checkout.workspace import RECORDS
from flows.records.hashes import Hashes
from transformer.errors import DataError
from transformer.files import locked, write_json

COMPUTE = "compute"  # the section of params that is recorded and that no stage depends on
MD5 = r"^[0-9a-f]{32}(\.dir)?$"
SHA256 = r"^[0-9a-f]{64}$"


class Frozen(BaseModel):
    """A part of a record: immutable, and unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Artifact(Frozen):
    """A file or folder that a stage read or wrote."""

    path: str
    md5: str = Field(pattern=MD5, description="As in dvc.lock; of a folder, with the suffix .dir")
    sha256: str = Field(pattern=SHA256, description="Of a folder: of its sorted lines 'sha256  path'")
    size: int = Field(ge=0, description="Bytes")
    files: dict[str, str] = Field(description="Of a folder: the MD5 of each file by relative path")

    @classmethod
    def of(cls, path: str, hashes: Hashes) -> "Artifact":
        """The artifact at `path` with these hashes."""
        return cls(path=path, md5=hashes.md5, sha256=hashes.sha256, size=hashes.size, files=hashes.listing)


class Code(Frozen):
    """The checkout that the stage's code came from; nulls outside git."""

    commit: str | None
    branch: str | None
    changes: str | None = Field(description="SHA-256 of what differed from the commit; null: nothing, or no git")
    changed: list[str] = Field(description="The paths that differed; what the pipeline itself writes is left out")


class Machine(Frozen):
    """Where the stage ran."""

    python: str
    os: str
    cpu: str
    cores: int
    threads: int | None = Field(description="Threads that torch computed with; null where the stage used no torch")
    gpus: list[str]
    driver: str | None
    cuda: str | None
    packages: dict[str, str]
    torch_files: str | None = Field(
        default=None, pattern=SHA256, description="SHA-256 of the sorted lines 'sha256  path' of torch's own files"
    )


class Executed(Frozen):
    """The code that really ran, wherever it came from."""

    modules: dict[str, str] = Field(
        description="SHA-256 of each module of the checkout that a process of the stage imported, line ends aside"
    )
    undeclared: list[str] = Field(
        description="Those that the stage does not declare, though they may decide its outputs"
    )
    altered: dict[str, str] = Field(description="Imported files that are not as they were installed: path, SHA-256")
    strangers: dict[str, str] = Field(
        description="Imported files of no commit and no installed package, as PYTHONPATH brings them: path, SHA-256"
    )
    python_path: list[str] = Field(description="PYTHONPATH")
    installed: str | None = Field(
        pattern=SHA256, description="SHA-256 of the sorted lines 'sha256  path' of all that pip has installed"
    )
    interpreter: str = Field(pattern=SHA256, description="SHA-256 of the Python that ran")


class Runs(Frozen):
    """The same execution elsewhere."""

    spool: str | None = Field(description="Names the execution; MLflow's run holds it as its tag `spool`")
    mlflow: str | None
    prefect_flow_run: str | None
    prefect_task_run: str | None


class Record(Frozen):
    """One successful execution of one stage."""

    schema_version: Literal[1]
    stage: str
    command: str
    code: Code
    params: dict[str, Any] = Field(description="Those that dvc.yaml names for the stage, and the section compute")
    seed: int | None
    inputs: list[Artifact]
    outputs: list[Artifact]
    machine: Machine
    started: str = Field(description="UTC, ISO 8601")
    ended: str = Field(description="UTC, ISO 8601")
    measured: dict[str, Any] = Field(
        default={}, description="What clock and machine decided: times, speeds, device, precision"
    )
    executed: Executed | None = Field(default=None, description="null in records of before there was any")
    runs: Runs
    digest: str = Field(pattern=SHA256, description="SHA-256 of all else, as compact JSON, runs.mlflow being null")

    @classmethod
    def sealed(cls, content: dict[str, Any]) -> "Record":
        """A record of this content with its digest."""
        return cls.model_validate(
            {"schema_version": 1, **content, "digest": digest_of({"schema_version": 1, **content})}
        )

    @property
    def expected_digest(self) -> str:
        """What `digest` is where nobody edited the record."""
        content = self.model_dump()
        del content["digest"]
        return digest_of(content)

    @property
    def depended(self) -> dict[str, Any]:
        """The params that decide what the stage makes."""
        return {section: values for section, values in self.params.items() if section != COMPUTE}

    def output(self, path: str) -> Artifact | None:
        """The output at `path`."""
        return next((one for one in self.outputs if one.path == path), None)


def md5s(artifacts: list[Artifact]) -> dict[str, str]:
    """Their MD5s by path, as dvc.lock has them."""
    return {one.path: one.md5 for one in artifacts}


def digest_of(content: dict[str, Any]) -> str:
    """SHA-256 of a record's content without its digest."""
    plain = {**content, "runs": {**content["runs"], "mlflow": None}}
    if not plain.get("measured"):  # as in records of before there were any
        plain.pop("measured", None)
    if plain.get("executed") is None:  # likewise
        plain.pop("executed", None)
    if plain["machine"].get("torch_files") is None:
        plain["machine"] = {key: value for key, value in plain["machine"].items() if key != "torch_files"}
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def record_path(root: Path, stage: str) -> Path:
    """The path of the record of `stage` in the checkout `root`."""
    return root / RECORDS / f"{stage}.json"


def parse_record(text: str | bytes, origin: str) -> Record:
    """Check a record's text; `origin` names it in errors.

    Raises:
        DataError: it is not a record of a known schema version.
    """
    try:
        return Record.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(step) for step in first["loc"]) or "text"
        raise DataError(f"{origin} is not a lineage record: {key}: {first['msg'].lower()}") from None


def write_record(root: Path, record: Record) -> Path:
    """Write the record into the checkout `root`, in place of the stage's last one."""
    path = record_path(root, record.stage)
    with _writing(path):
        write_json(path, record.model_dump())
    return path


def fill_in_run(path: Path, spool: str, run: str) -> None:
    """Add the id of the MLflow run to the record at `path`, if that is still the record of the same execution."""
    if not path.parent.is_dir():  # the worktree that the stage ran in is gone
        return
    with _writing(path):
        try:
            record = parse_record(path.read_bytes(), str(path))
        except (FileNotFoundError, DataError):  # it was removed or edited meanwhile
            return
        if record.runs.spool == spool:
            runs = record.runs.model_copy(update={"mlflow": run})
            write_json(path, record.model_copy(update={"runs": runs}).model_dump())


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """One writer at a time: a stage and the sender both replace records."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with locked(path.parent):
        yield
