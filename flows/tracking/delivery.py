"""Delivers a spool's events to an MLflow server, each once, however often the sender or the server dies."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import mlflow
from mlflow.entities import Metric, Param, RunTag, ViewType
from mlflow.exceptions import MlflowException

from flows.checkout.workspace import artifact_folder
from flows.records.record import fill_in_run
from flows.tracking.spool import Event, Spool
from transformer.files import write_text

# Its text: by the time of a delivery the checkout may be on a branch that does not have the file.
TRANSLATOR = Path(__file__).with_name("translator_model.py").read_text(encoding="utf-8")
MAX_POINTS = 1000  # of one MLflow request
MAX_TAG_CHARACTERS = 5000
# What must be installed to load the registered model.
MODEL_REQUIREMENTS = ["mlflow", "numpy", "pydantic", "ruamel.yaml", "safetensors", "sentencepiece", "torch"]
MAX_ATTEMPTS = 3  # to make a server that answers take a record


class Delivery:
    """Brings one spool to its server, from where the last attempt stopped."""

    def __init__(self, spool: Spool) -> None:
        self.spool = spool
        position = spool.position()
        self._offset: int = position["offset"]
        self._run: str | None = position["run"]
        self._attempts: int = position["attempts"]
        self._behind_current = self._offset  # the offset behind what is being sent
        first = next(spool.events(0), None)
        self._start: Event = first[0] if first else {"uri": "", "time": 0}
        self.uri: str = self._start["uri"]
        self._last_time: int = self._start["time"]

    def advance(self) -> None:
        """Send everything new; end the run and remove the spool once it is complete or its writer is dead.

        Raises:
            Exception: the server is down or failed. How far we got is remembered, and an event that a server which
                does answer refuses repeatedly is skipped.
        """
        live = self.spool.is_live()  # checked first: whatever the process wrote before it died is then in the file
        try:
            ended = self._send_events()
            if not ended and not live:
                self._abandon()
        except Exception as error:
            self._client.search_experiments(max_results=1)  # raises if the server is down
            self._attempts += 1
            self.spool.set_position(self._offset, self._run, self._attempts)
            if self._attempts < MAX_ATTEMPTS:
                raise
            print(f"{self.spool.id}: {self.uri} refuses a record, which is skipped: {error}", flush=True)
            if self._run_is_there():
                self._sent(self._behind_current)
                return
            ended = True
        if ended or not live:
            self.spool.remove()

    def _run_is_there(self) -> bool:
        """False if the run could not be created, or if somebody has deleted it."""
        try:
            return self._run is not None and self._client.get_run(self._run).info.lifecycle_stage == "active"
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _send_events(self) -> bool:
        handlers: dict[str, Callable[[Event], None]] = {
            "start": self._create_run,
            "tags": self._log_tags,
            "artifact": self._log_artifact,
            "model": self._log_model,
            "end": self._end_run,
        }
        points: list[Metric] = []
        ended = False
        for event, offset in self.spool.events(self._offset):
            self._last_time = event["time"]
            if event["event"] == "metrics":
                new = [Metric(_key(k), v, event["time"], event["step"]) for k, v in event["values"].items()]
                if len(points) + len(new) > MAX_POINTS:
                    self._log_points(points)
                points.extend(new)
                self._behind_current = offset
            else:
                self._log_points(points)
                self._behind_current = offset
                handlers[event["event"]](event)
                self._sent(offset)
                ended = event["event"] == "end"
        self._log_points(points)
        return ended

    def _sent(self, offset: int) -> None:
        self._offset, self._attempts = offset, 0
        self.spool.set_position(offset, self._run, 0)

    def _log_points(self, points: list[Metric]) -> None:
        # Sending a batch twice does no harm: MLflow drops points that are equal in every field.
        for first in range(0, len(points), MAX_POINTS):
            self._client.log_batch(self._run_id, metrics=points[first : first + MAX_POINTS])
        if points:
            self._sent(self._behind_current)
            points.clear()

    @property
    def _client(self) -> mlflow.MlflowClient:
        return mlflow.MlflowClient(tracking_uri=self.uri)

    @property
    def _run_id(self) -> str:
        assert self._run is not None, "the first event of a spool creates the run"
        return self._run

    def _create_run(self, event: Event) -> None:
        experiment = self._experiment(event["experiment"])
        # An attempt that timed out may have created the run nevertheless.
        known = self._client.search_runs([experiment], f"tags.spool = '{self.spool.id}'", ViewType.ALL)
        tags = {key: value[:MAX_TAG_CHARACTERS] for key, value in event["tags"].items()}
        run = (
            known[0]
            if known
            else self._client.create_run(experiment, event["time"], {**tags, "spool": self.spool.id}, event["name"])
        )
        self._run = run.info.run_id
        self._client.log_batch(self._run_id, params=[Param(*item) for item in event["params"].items()])

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment:
            return str(experiment.experiment_id)
        # A server is configured with a place for artifacts; the workspace's own store keeps them beside itself.
        location = artifact_folder().as_uri() if self.uri.startswith("sqlite:") else None
        return str(self._client.create_experiment(name, artifact_location=location))

    def _log_tags(self, event: Event) -> None:
        tags = [RunTag(key, value[:MAX_TAG_CHARACTERS]) for key, value in event["tags"].items()]
        self._client.log_batch(self._run_id, tags=tags)

    def _log_artifact(self, event: Event) -> None:
        kept = self.spool.kept(event["name"])
        if kept.is_dir():
            self._client.log_artifacts(self._run_id, str(kept), event["name"])
        else:
            folder = Path(event["name"]).parent
            self._client.log_artifact(self._run_id, str(kept), folder.as_posix() if folder.name else None)

    def _log_model(self, event: Event) -> None:
        versions = self._client.search_model_versions(f"run_id = '{self._run_id}'")
        if versions:
            number = versions[0].version
        else:
            mlflow.set_tracking_uri(self.uri)
            translator = self.spool.kept("translator_model.py")
            write_text(translator, TRANSLATOR)
            with mlflow.start_run(run_id=self._run_id):
                number = mlflow.pyfunc.log_model(
                    name="model",
                    python_model=str(translator),
                    artifacts={"model": str(self.spool.kept("model"))},
                    code_paths=[str(self.spool.kept("code/transformer"))],
                    pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in MODEL_REQUIREMENTS],
                    registered_model_name=event["name"],
                ).registered_model_version
        self._client.set_model_version_tag(event["name"], str(number), "sha256", event["sha256"])

    def _end_run(self, event: Event) -> None:
        self._client.set_terminated(self._run_id, event["status"], event["time"])
        if "record" in self._start:
            fill_in_run(Path(self._start["record"]), self.spool.id, self._run_id)

    def _abandon(self) -> None:
        """End the run of a stage whose process was killed before it could do so itself."""
        if self._run is not None:
            tag = [RunTag("error", "the stage's process ended without a word, as SIGKILL does it")]
            self._client.log_batch(self._run_id, tags=tag)
            self._client.set_terminated(self._run_id, "KILLED", self._last_time)


def _key(name: str) -> str:
    """A metric name as MLflow takes it: letters, digits and a few signs."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "_-. :/") else "_" for sign in name)
