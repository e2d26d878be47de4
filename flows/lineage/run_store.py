"""Reads runs and registered models from MLflow, if its store answers within seconds."""

import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flows.records.record import record_path

Answer = TypeVar("Answer")
ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")  # MLflow's codes: it does not exist
PROBE_SECONDS = 2.0
ALIAS, DECISIONS = "champion", "promotion."  # an alias of a registered model; its tags that hold decisions, by time
DEFAULT_PORTS = {"http": 80, "https": 443, "postgresql": 5432, "mysql": 3306, "mssql": 1433}


@dataclass(frozen=True)
class RunInfo:
    """An MLflow run."""

    id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]  # the last value of each
    started: float  # Unix time, seconds
    ended: float  # likewise; 0 while it runs
    artifacts: str  # URI


@dataclass(frozen=True)
class ModelVersion:
    """A version in the model registry."""

    name: str
    version: str
    run: str
    sha256: str | None  # its tag: of the model folder
    artifacts: str  # URI


class RunStore:
    """Reads a tracking store; if it is missing or does not answer, nothing is found and `problem` says why."""

    def __init__(self, uri: str, root: Path) -> None:
        self.uri = uri
        self.root = root

    @property
    def own(self) -> bool:
        """Whether it is the workspace's own store, a file, which has the runs that were made here."""
        return self.uri.startswith("sqlite")

    @cached_property
    def problem(self) -> str | None:
        """Why nothing can be read; None if the store is there."""
        parts = urlsplit(self.uri)
        scheme = parts.scheme.partition("+")[0]
        if scheme == "sqlite":
            return None if Path(self.uri.partition(":///")[2]).exists() else "no run store in this workspace"
        if not parts.hostname:
            return None
        try:
            port = parts.port or DEFAULT_PORTS.get(scheme, 443)
            socket.create_connection((parts.hostname, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            return f"{scheme}://{parts.hostname}:{port} does not answer ({error})"
        return None

    @cached_property
    def _client(self) -> Any:
        import mlflow  # here: it takes seconds

        return mlflow.MlflowClient(tracking_uri=self.uri)

    def _asked(self, question: Callable[[], Answer], nothing: Answer) -> Answer:
        """The store's answer; `nothing` if it has no such thing, or if it can't be read any more."""
        if self.problem:
            return nothing
        from mlflow.exceptions import MlflowException

        try:
            return question()
        except Exception as error:  # whatever failed, server, network or database: nothing can be read
            absent = isinstance(error, MlflowException) and error.error_code in ABSENT
            if not absent:
                self.problem = f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
            return nothing

    def run(self, run: str) -> RunInfo | None:
        """The run with this id; None if there is none, or nothing can be read."""
        return self._asked(lambda: _run_info(self._client.get_run(run)), None)

    def runs_tagged(self, tag: str, value: str) -> list[RunInfo]:
        """The runs that carry a tag, newest first."""
        quoted = value.replace("'", "")

        def question() -> list[RunInfo]:
            experiments = [one.experiment_id for one in self._client.search_experiments()]
            return [_run_info(run) for run in self._client.search_runs(experiments, f"tags.`{tag}` = '{quoted}'")]

        return self._asked(question, [])

    def records_of(self, stage: str) -> Iterator[tuple[str, str]]:
        """(run id, record's text) of each finished run of a stage."""
        name = record_path(Path(), stage).as_posix()
        for run in self.runs_tagged("stage", stage):
            if text := self.artifact(run, name):
                yield run.id, text

    def history(self, run: str, metric: str) -> list[tuple[int, float]]:
        """(step, value) of every point of a run's metric."""
        return self._asked(
            lambda: [(one.step, one.value) for one in self._client.get_metric_history(run, metric)], []
        )

    def artifact(self, run: RunInfo, name: str) -> str | None:
        """The text of one of a run's artifacts; None if it has none of that name."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.fetch(f"{run.artifacts}/{name}", Path(folder))
            return path.read_text(encoding="utf-8") if path and path.is_file() else None

    def versions(self, key: str, value: str) -> list[ModelVersion]:
        """The registered versions with `run_id`, `name` or `tags.<tag>` of this value."""
        found = f"{key} = '{value}'"
        return self._asked(lambda: [self._version(one) for one in self._client.search_model_versions(found)], [])

    def version(self, name: str, number: str) -> ModelVersion | None:
        """A registered version by number or by `@alias`."""
        if number.startswith("@"):
            alias = number[1:]
            return self._asked(lambda: self._version(self._client.get_model_version_by_alias(name, alias)), None)
        return self._asked(lambda: self._version(self._client.get_model_version(name, number)), None)

    def champion(self, name: str) -> tuple[str, str] | None:
        """The version with the alias `champion`, and the one that the history of decisions names last; or neither."""

        def question() -> tuple[str, str]:
            model = self._client.get_registered_model(name)
            told = [value for key, value in sorted(model.tags.items()) if key.startswith(DECISIONS)]
            last = str(json.loads(told[-1])["champion"] or "nobody") if told else "nobody"
            return str(model.aliases.get(ALIAS, "nobody")), last

        return self._asked(question, None)

    def names(self) -> list[str]:
        """What versions of registered models can be called: NAME/NUMBER and NAME@ALIAS."""

        def question() -> list[str]:
            found = []
            for model in self._client.search_registered_models():
                found += [f"{model.name}@{alias}" for alias in model.aliases]
                found += [
                    f"{model.name}/{one.version}"
                    for one in self._client.search_model_versions(f"name = '{model.name}'")
                ]
            return found

        return self._asked(question, [])

    def fetch(self, uri: str, folder: Path) -> Path | None:
        """A local path to artifacts: where they are, or a download in `folder`; None if they are missing."""
        parts = urlsplit(uri)
        if parts.scheme in ("", "file"):
            path = Path(url2pathname(parts.path))
            if "mlartifacts" in path.parts:  # those of the workspace's own store may have moved with it
                inner = path.parts[path.parts.index("mlartifacts") :]
                path = moved if (moved := self.root.joinpath(*inner)).exists() else path
            return path if path.exists() else None
        import mlflow

        try:
            return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(folder), tracking_uri=self.uri))
        except Exception:  # whatever the artifact store fails with, its content can't be read
            return None

    def _version(self, version: Any) -> ModelVersion:
        source = self._client.get_model_version_download_uri(version.name, version.version)
        return ModelVersion(version.name, str(version.version), version.run_id, version.tags.get("sha256"), source)


def _run_info(run: Any) -> RunInfo:
    info, data = run.info, run.data
    status = info.status if info.lifecycle_stage == "active" else "deleted"
    return RunInfo(
        id=info.run_id,
        status=status,
        tags=dict(data.tags),
        params=dict(data.params),
        metrics=dict(data.metrics),
        started=info.start_time / 1000,
        ended=(info.end_time or 0) / 1000,
        artifacts=info.artifact_uri,
    )
