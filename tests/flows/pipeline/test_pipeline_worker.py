"""The flow as a deployment on a real server and worker, real training in it, and the ways in which it ends."""

import signal
from collections.abc import Iterator, Sequence
from uuid import UUID

import mlflow
import psutil
import pytest
import yaml
from mlflow_server import MlflowServer
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import FlowRunFilter, LogFilter
from prefect.client.schemas.objects import State
from prefect.states import Cancelling
from prefect_server import PrefectServer, Worker, until
from tiny_inputs import TINY_PARAMS
from workspace import STAGES, Workspace

pytestmark = pytest.mark.slow
POOL = "pipeline-test"
UPDATES = 1500  # some ten seconds: the first log lines reach Prefect, and those who wait for them, late
TRAINING = {
    **TINY_PARAMS["training"],
    "seed": 2,  # else it would go on from the shorter training of the checkout
    "updates": UPDATES,
    "log_every": 15,
    "validate_every": UPDATES,
    "validation_bleu_sentences": 0,
}


class Operator:
    """What a person does in Prefect's UI, and sees there."""

    def __init__(self, server: PrefectServer, workspace: Workspace) -> None:
        self.client, self.workspace = server.client, workspace
        self.client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        flow = self.client.create_flow_from_name("pipeline")
        self.deployment = self.client.create_deployment(
            flow,
            "tiny",
            entrypoint="flows/pipeline/flow.py:pipeline",
            work_pool_name=POOL,
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(workspace.folder)}}],
        )

    def trigger(self, targets: Sequence[str] = ("train",)) -> UUID:
        return self.client.create_flow_run_from_deployment(self.deployment, parameters={"targets": list(targets)}).id

    def cancel(self, run: UUID) -> None:
        self.client.set_flow_run_state(run, Cancelling())

    def state(self, run: UUID) -> State:
        state = self.client.read_flow_run(run).state
        assert state is not None
        return state

    def log(self, run: UUID) -> str:
        lines = self.client.read_logs(LogFilter(flow_run_id={"any_": [run]}), limit=200)
        return "\n".join(line.message for line in lines)

    def tasks(self, run: UUID) -> dict[str, str]:
        """Stage -> name of its task's state."""
        found = self.client.read_task_runs(flow_run_filter=FlowRunFilter(id={"any_": [run]}))
        return {task.name: task.state_name or "" for task in found}

    def until_training(self, run: UUID) -> None:
        until(lambda: f"/{UPDATES}  loss" in self.log(run), what=f"training; {self.log(run)}")

    def until_final(self, run: UUID) -> State:
        until(lambda: self.state(run).is_final(), what="the end of the run")
        return self.state(run)


def processes(workspace: Workspace) -> list[str]:
    """The commands of everything that runs in the workspace, but for the sender of records and the worker."""
    found = []
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            here = process.cwd() == str(workspace.folder)
        except psutil.Error:
            continue
        if here and "flows.tracking.send" not in command and "worker start" not in command:
            found.append(command)
    return found


@pytest.fixture(scope="module")
def workspace(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The finished checkout, with a longer training to do."""
    made = reproduced.copy_to(tmp_path_factory.mktemp("worker") / "checkout")
    params = {**TINY_PARAMS, "training": TRAINING}
    (made.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    return made


@pytest.fixture(scope="module")
def tracking(workspace: Workspace) -> Iterator[MlflowServer]:
    """The MLflow server that the runs are recorded with."""
    folder = workspace.folder.parent / "mlflow"
    folder.mkdir()
    server = MlflowServer(folder)
    server.start()
    workspace.environment["MLFLOW_TRACKING_URI"] = server.uri
    yield server
    server.stop()


@pytest.fixture(scope="module")
def operator(prefect_server: PrefectServer, workspace: Workspace, tracking: MlflowServer) -> Operator:
    return Operator(prefect_server, workspace)


@pytest.fixture
def worker(operator: Operator, prefect_server: PrefectServer) -> Iterator[Worker]:
    worker = Worker(prefect_server, POOL, operator.workspace.folder, operator.workspace.environment)
    worker.start()
    yield worker
    worker.end(signal.SIGTERM)


def test_a_cancel_saves_the_training_and_leaves_nothing_running(operator: Operator, worker: Worker) -> None:
    run = operator.trigger()
    operator.until_training(run)
    assert any("flows.stages.train" in command for command in processes(operator.workspace))
    operator.cancel(run)
    assert operator.until_final(run).name == "Cancelled"
    until(lambda: not processes(operator.workspace), what="the end of all processes")
    until(lambda: "with its state saved" in operator.log(run), what="the training's last words")
    assert operator.tasks(run)["train"] != "Completed"
    assert "Retry" not in operator.log(run)


def test_the_death_of_the_worker_ends_the_run_and_the_training(operator: Operator, worker: Worker) -> None:
    run = operator.trigger()
    operator.until_training(run)
    assert "resuming after update" in operator.log(run)
    worker.end(signal.SIGKILL)
    until(lambda: not processes(operator.workspace), what="the end of all processes")
    assert operator.until_final(run).name == "Crashed"


def test_prefect_may_restart_and_mlflow_be_away_while_the_run_goes_on(
    operator: Operator, worker: Worker, prefect_server: PrefectServer, tracking: MlflowServer
) -> None:
    run = operator.trigger()
    operator.until_training(run)
    tracking.stop()
    prefect_server.restart()
    assert operator.until_final(run).name == "Completed", operator.log(run)
    skipped = dict.fromkeys(STAGES[: STAGES.index("train")], "Skipped")
    assert operator.tasks(run) == {**skipped, "train": "Completed"}
    assert prefect_server.client.read_global_concurrency_limit_by_name("gpu").active_slots == 0


def test_three_attempts_and_an_outage_recorded_every_step_once(operator: Operator, tracking: MlflowServer) -> None:
    tracking.start()
    operator.workspace.send()
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tracking.store}")
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    trainings = client.search_runs(experiments, "tags.stage != ''", order_by=["attributes.start_time"])
    assert [run.data.tags["stage"] for run in trainings] == ["train"] * 3
    assert [run.info.status for run in trainings] == ["KILLED", "KILLED", "FINISHED"]
    steps = [point.step for run in trainings for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == list(range(TRAINING["log_every"], UPDATES + 1, TRAINING["log_every"]))


def test_the_process_of_a_failed_run_ends_in_failure(operator: Operator, worker: Worker) -> None:
    run = operator.trigger(targets=["no such stage"])
    state = operator.until_final(run)
    assert state.name == "Failed"
    assert state.message is not None
    assert "no such stage is not a stage; dvc.yaml has download, parent, prepare" in state.message
    assert "Traceback" not in operator.log(run)
    until(lambda: "exited with unexpected exception" in worker.log.read_text(), what="the end of the process")
