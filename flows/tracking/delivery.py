"""Delivers a spool's events to an MLflow server, each once, however often the sender or the server dies."""

import logging
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
from mlflow.entities import LifecycleStage, Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, Schema

from flows.checkout.workspace import artifact_folder, main_workspace, own_store_uri
from flows.records.nested_keys import metric_key
from flows.records.record import fill_in_run
from flows.tracking.global_address import tracking_at
from flows.tracking.model_description import MADE_FROM, SCORES, with_part
from flows.tracking.pipeline_run import PipelineRun, parent_tag
from flows.tracking.problem import Problem
from flows.tracking.spool import EVENTS_FILE, Event, Position, Refused, Spool
from transformer.files import write_text

# Its text: by the time of a delivery the checkout may be on a branch that does not have the file.
TRANSLATOR = Path(__file__).with_name("translator_model.py").read_text(encoding="utf-8")
MAX_POINTS = 1000  # of one MLflow request
MAX_TAG_CHARACTERS = 5000
EXAMPLE = ["The password is wrong.", "Turn on the light."]
SIGNATURE = ModelSignature(Schema([ColSpec("string")]), Schema([ColSpec("string")]))  # lines, translations
MODEL_REQUIREMENTS = [  # to load the registered model
    "langcodes", "language-data", "mlflow", "numpy", "protobuf", "pydantic", "regex", "rich", "ruamel.yaml",
    "safetensors", "sentencepiece", "torch",
]  # fmt: skip
_log = logging.getLogger(__name__)


class Delivery:
    """Brings one spool to its server, from where the last attempt stopped.

    Three kinds of trouble are told apart. A server that is away, or answers and takes nothing (a full disk, a locked
    database), is no fault of the record, which waits. What somebody deleted in MLflow meanwhile is restored. Events
    that the server refuses, or that are damaged here, are set aside and kept, so that the others arrive.
    """

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        self._position = spool.position()
        first = next(spool.events(0), None)
        self._start: Event = first[0] if first else {"time": 0}
        self.uri = self._position.address or own_store_uri()
        self._last_time: int = self._start["time"]

    def advance(self) -> Problem | None:
        """Send everything new; end the run and remove the spool once it is complete or its writer is dead.

        How far we got is remembered.

        Returns:
            Why something is left; None if nothing is, or only what a stage has yet to do.
        """
        live = self.spool.is_live()  # checked first: whatever the process wrote before it died is then in the file
        try:
            try:
                self._send(live)
            except Exception:
                if not self._restored():
                    raise
                self._send(live)
        except Exception as error:  # whatever failed, server, network or database
            return self._problem(error)
        if live and not self._position.ended:
            return None
        if self._position.refused:
            return Problem(self.uri, "refuses", self._position.refused[0].reason)
        self.spool.remove()
        return None

    def _problem(self, error: Exception) -> Problem:
        if _is_fault_of_record(error):  # the run itself could not be created, so nothing else can be sent
            return Problem(self.uri, "refuses", _in_words(error))
        try:
            self._client.search_experiments(max_results=1)
        except Exception as reason:
            return Problem(self.uri, "can't be reached", _in_words(reason))
        return Problem(self.uri, "fails", _in_words(error))

    def _send(self, live: bool) -> None:
        for begin, events, end in self._pieces(self._position.offset, None):
            try:
                self._send_piece(events)
            except Exception as error:
                if self._position.run is None or not _is_fault_of_record(error) or not self._run_is_active():
                    raise
                self._position.refused.append(Refused(begin, end, _in_words(error)))
            self._position.offset = end
            self._position.ended |= events[-1]["event"] == "end"
            self.spool.set_position(self._position)
        if not live or self._position.ended:
            self._send_refused()
            if not self._position.ended:
                self._abandon()

    def _send_refused(self) -> None:
        for refused in list(self._position.refused):
            try:
                for _, events, _ in self._pieces(refused.begin, refused.end):
                    self._send_piece(events)
            except Exception as error:
                if not _is_fault_of_record(error) or not self._run_is_active():
                    raise
                refused.reason = _in_words(error)
            else:
                self._position.refused.remove(refused)
            self.spool.set_position(self._position)

    def _pieces(self, offset: int, end: int | None) -> Iterator[tuple[int, list[Event], int]]:
        """The events from `offset` up to `end`, metrics together in requests; each piece between its offsets."""
        begin, points, metrics = offset, 0, list[Event]()
        for event, behind in self.spool.events(offset):
            if end is not None and behind > end:
                break
            count = len(event["values"]) if event["event"] == "metrics" else MAX_POINTS
            if metrics and points + count > MAX_POINTS:
                yield begin, metrics, offset
                begin, points, metrics = offset, 0, []
            if event["event"] == "metrics":
                metrics.append(event)
                points += count
            else:
                yield begin, [event], behind
                begin = behind
            offset = behind
        if metrics:
            yield begin, metrics, offset

    def _send_piece(self, events: list[Event]) -> None:
        handlers: dict[str, Callable[[Event], None]] = {
            "start": self._create_run,
            "tags": self._log_tags,
            "artifact": self._log_artifact,
            "model": self._log_model,
            "scores": self._log_scores,
            "end": self._end_run,
        }
        kind, self._last_time = events[0]["event"], events[-1]["time"]
        if kind == "metrics":
            self._log_points(events)
        elif kind in handlers:
            handlers[kind](events[0])
        else:
            raise _RecordError(f"a line of {self.spool.folder.name}/{EVENTS_FILE} is damaged")

    def _log_points(self, events: list[Event]) -> None:
        # Sending a batch twice does no harm: MLflow drops points that are equal in every field.
        points = [
            Metric(metric_key(name), value, event["time"], event["step"])
            for event in events
            for name, value in event["values"].items()
        ]
        for first in range(0, len(points), MAX_POINTS):
            self._client.log_batch(self._run_id, metrics=points[first : first + MAX_POINTS])

    @property
    def _client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(tracking_uri=self.uri)

    @property
    def _run_id(self) -> str:
        if self._position.run is None:
            raise _RecordError(f"the first line of {self.spool.folder.name}/{EVENTS_FILE} is damaged")
        return self._position.run

    def _run_is_active(self) -> bool:
        return bool(self._client.get_run(self._run_id).info.lifecycle_stage == LifecycleStage.ACTIVE)

    def _restored(self) -> bool:
        """Undo what somebody deleted in MLflow while records of it were on their way; False if nothing was.

        What is deleted for good, or was in another store at the same address, is sent again from its beginning.
        """
        if self._position.run is None:
            return False
        try:
            run = self._client.get_run(self._position.run)
            experiment = self._client.get_experiment(run.info.experiment_id)
            if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
                self._client.restore_experiment(experiment.experiment_id)
            elif run.info.lifecycle_stage != LifecycleStage.ACTIVE:
                self._client.restore_run(run.info.run_id)
            else:
                return False
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                return False
            self._position = Position(self._position.address)
        except Exception:  # the server is away: that is what there is to tell
            return False
        _log.warning("%s: what was deleted at %s is there again, as its records were on their way", *self._names())
        return True

    def _names(self) -> tuple[str, str]:
        return self.spool.id, self.uri

    def _create_run(self, event: Event) -> None:
        experiment = self._experiment(event["experiment"])
        # An attempt that timed out may have created the run nevertheless.
        known = self._client.search_runs([experiment], f"tags.spool = '{self.spool.id}'", ViewType.ACTIVE_ONLY)
        tags = {key: value[:MAX_TAG_CHARACTERS] for key, value in event["tags"].items()}
        run = (
            known[0]
            if known
            else self._client.create_run(experiment, event["time"], {**tags, "spool": self.spool.id}, event["name"])
        )
        self._position.run = run.info.run_id
        self._client.log_batch(self._run_id, params=[Param(*item) for item in event["params"].items()])
        if "parent" in event:
            shared = {name: tags[name] for name in event["parent"]["tags"] if name in tags}
            parent = self._pipeline(experiment).begin_stage(event["parent"]["name"], event["time"], shared)
            self._client.log_batch(self._run_id, tags=[parent_tag(parent)])

    def _pipeline(self, experiment: str) -> PipelineRun:
        return PipelineRun(self._client, experiment, self._start["tags"]["pipeline"])

    def _end_pipeline(self, time: int) -> None:
        """After the stage's own end: what stands above it changes too."""
        if "parent" in self._start:
            experiment = self._client.get_run(self._run_id).info.experiment_id
            self._pipeline(experiment).end_stage(self._run_id, time)

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment:
            if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
                self._client.restore_experiment(experiment.experiment_id)
                _log.warning("%s: the experiment %s had been deleted and is there again", self.spool.id, name)
            return str(experiment.experiment_id)
        # A server is configured with a place for artifacts; the workspace's own store keeps them beside itself.
        location = artifact_folder().as_uri() if self.uri.startswith("sqlite:") else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _log_tags(self, event: Event) -> None:
        tags = [RunTag(key, value[:MAX_TAG_CHARACTERS]) for key, value in event["tags"].items()]
        self._client.log_batch(self._run_id, tags=tags)

    def _log_artifact(self, event: Event) -> None:
        kept = self.spool.kept(event["name"])
        if not kept.exists():
            raise _RecordError(f"{kept} is missing")
        if kept.is_dir():
            self._client.log_artifacts(self._run_id, str(kept), event["name"])
        else:
            folder = Path(event["name"]).parent
            self._client.log_artifact(self._run_id, str(kept), folder.as_posix() if folder.name else None)

    def _log_model(self, event: Event) -> None:
        if not self.spool.kept("model").exists():
            raise _RecordError(f"{self.spool.kept('model')} is missing")
        versions = self._client.search_model_versions(f"run_id = '{self._run_id}'")
        if versions:
            number = versions[0].version
        else:
            translator = self.spool.kept("translator_model.py")
            write_text(translator, TRANSLATOR)
            expected = self.spool.kept("model.sha256")
            write_text(expected, event["sha256"])
            with tracking_at(self.uri), mlflow.start_run(run_id=self._run_id):
                number = Model.log(
                    artifact_path=None,
                    name="model",
                    flavor=SimpleNamespace(__name__="mlflow.pyfunc", save_model=_save_model),
                    validate_serving_input=False,
                    python_model=str(translator),
                    # As addresses: of a path, MLflow would decode a %.
                    artifacts={"model": self.spool.kept("model").as_uri(), "sha256": expected.as_uri()},
                    code_paths=[str(self.spool.kept("code/transformer"))],
                    pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in MODEL_REQUIREMENTS],
                    signature=SIGNATURE,
                    input_example=EXAMPLE,
                    registered_model_name=event["name"],
                ).registered_model_version
        self._client.set_model_version_tag(event["name"], str(number), "sha256", event["sha256"])
        self._describe(event["name"], str(number), MADE_FROM, event.get("made_from", ""))

    def _log_scores(self, event: Event) -> None:
        """Tell the versions of the model that was evaluated; it may not be registered."""
        same = f"name = '{event['name']}' and tags.sha256 = '{event['sha256']}'"
        for found in self._client.search_model_versions(same):
            self._describe(event["name"], str(found.version), SCORES, event["text"])

    def _describe(self, name: str, number: str, heading: str, text: str) -> None:
        if text:
            former = self._client.get_model_version(name, number).description
            self._client.update_model_version(name, number, with_part(former, heading, text))

    def _end_run(self, event: Event) -> None:
        self._client.set_terminated(self._run_id, event["status"], event["time"])
        self._end_pipeline(event["time"])
        if "record" in self._start:
            fill_in_run(main_workspace() / self._start["record"], self.spool.id, self._run_id)

    def _abandon(self) -> None:
        """End the run of a stage whose process was killed before it could do so itself."""
        if self._position.run is not None:
            tag = [RunTag("error", "the stage's process ended without a word, as SIGKILL does it")]
            self._client.log_batch(self._run_id, tags=tag)
            self._client.set_terminated(self._run_id, "KILLED", self._last_time)
            self._end_pipeline(self._last_time)
        self._position.ended = True
        self.spool.set_position(self._position)


class _RecordError(Exception):
    """What we would send is missing or damaged."""


def _is_fault_of_record(error: Exception) -> bool:
    """Whether the record is to blame; whatever else a server or its disk fails with passes, and the record waits."""
    if isinstance(error, MlflowException):
        return bool(error.error_code == "INVALID_PARAMETER_VALUE")
    return isinstance(error, _RecordError | KeyError)


def _in_words(error: Exception) -> str:
    words = " ".join(str(error).split())[:200]
    return words if isinstance(error, _RecordError) else f"{type(error).__name__}: {words}"


def _save_model(*, validate_serving_input: bool, **given: Any) -> None:
    """As MLflow's own; `Model.log` alone knows the first, without which it would load the model, and torch, here."""
    mlflow.pyfunc.save_model(**given)
