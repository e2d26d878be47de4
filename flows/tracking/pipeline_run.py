"""The run above the stages of one execution of the pipeline, in MLflow's list of runs: its name, state and scores."""

import json

import mlflow
from mlflow.entities import Metric, Run, RunTag, ViewType

KIND = "pipeline.run"  # the tag that holds the pipeline's id; that of its stages' runs is `pipeline`
PARENT = "mlflow.parentRunId"
# The scores of a stage that stand in the list, under the names that comparing runs opens on.
HEADLINES = {"BLEU": "test.bleu", "chrF2": "test.chrf", "validation loss": "valid/loss"}
GOOD, RUNNING = "FINISHED", "RUNNING"
# A view of the list of runs, at …/runs?viewStateShareKey=scores: by itself MLflow shows no scores there.
VIEW_TAG = "mlflow.sharedViewState.scores"
VIEW = {
    "orderByKey": "attributes.start_time",
    "orderByAsc": False,
    "startTime": "ALL",
    "lifecycleFilter": "Active",
    "searchFilter": "",
    "datasetsFilter": [],
    "modelVersionFilter": "All Runs",
    "selectedColumns": [
        *(f"attributes.`{name}`" for name in ("Created", "Duration")),
        *(f"metrics.`{name}`" for name in HEADLINES),
    ],
}


class PipelineRun:
    """Found by the pipeline's id, whoever delivers its stages, and however often."""

    def __init__(self, client: mlflow.MlflowClient, experiment: str, pipeline: str) -> None:
        self._client, self._experiment, self._pipeline = client, experiment, pipeline

    def begin_stage(self, name: str, time: int, tags: dict[str, str]) -> str:
        """A stage of it begins at `time` (milliseconds); returns the run's id.

        Args:
            name: of the run, where it is new.
            time: when the stage began.
            tags: of the run, where it is new.
        """
        run = self._find()
        if run is None:
            self._client.set_experiment_tag(self._experiment, VIEW_TAG, json.dumps(VIEW))
            shown = {**tags, KIND: self._pipeline, "mlflow.source.name": "pipeline"}
            run = self._client.create_run(self._experiment, time, shown, name)
        self._client.update_run(run.info.run_id, status=RUNNING)
        return str(run.info.run_id)

    def end_stage(self, stage: str, time: int) -> None:
        """The stage's run has ended: take over its headline scores, and the state of all stages."""
        if (run := self._find()) is None:  # of a record that an older version has begun
            return
        found = self._client.get_run(stage).data.metrics
        scores = [Metric(name, found[key], time, 0) for name, key in HEADLINES.items() if key in found]
        self._client.log_batch(run.info.run_id, metrics=scores)
        self._client.set_terminated(run.info.run_id, self._state(run), time)

    def _find(self) -> Run | None:
        found = self._client.search_runs(
            [self._experiment], f"tags.`{KIND}` = '{self._pipeline}'", ViewType.ACTIVE_ONLY
        )
        return found[0] if found else None

    def _state(self, run: Run) -> str:
        """Of the last run of each stage: RUNNING while one runs, else the first that is not good."""
        stages = self._client.search_runs(
            [self._experiment],
            f"tags.`{PARENT}` = '{run.info.run_id}'",
            ViewType.ACTIVE_ONLY,
            order_by=["attributes.start_time"],
        )
        last = {one.data.tags.get("stage"): str(one.info.status) for one in stages}
        if RUNNING in last.values():
            return RUNNING
        return next((state for state in last.values() if state != GOOD), GOOD)


def parent_tag(run: str) -> RunTag:
    """Puts a stage's run under the pipeline's."""
    return RunTag(PARENT, run)
