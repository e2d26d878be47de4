"""When a deployment's run may begin: one at a time on this machine, and of missed scheduled runs only the last."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterExpectedStartTime,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled

from flows.checkout.workspace import WORK
from transformer.files import locked

ASK_AGAIN_SECONDS = 1.0
ON_TIME = timedelta(minutes=5)  # a worker asks every few seconds; later than this, it was away


def missed_too_often(catch_up: int) -> bool:
    """Whether this run is one of several that a schedule has made meanwhile, and not among the last `catch_up`.

    Those of them that have not begun are cancelled at once. A run that a person has asked for is never one of them.
    """
    if runtime.deployment.id is None:
        return False
    with get_client(sync_client=True) as client:
        this = client.read_flow_run(UUID(str(runtime.flow_run.id)))
        if not this.auto_scheduled or this.run_count > 1:  # it has begun before, and goes on after a crash
            return False
        others, now = _due(client, this), datetime.now(UTC)
        if not others and now - (this.expected_start_time or now) < ON_TIME:
            return False
        due = sorted([this, *others], key=lambda run: run.expected_start_time or datetime.now(UTC))
        dropped = due[: max(0, len(due) - catch_up)]
        for run in dropped:
            if run.id != this.id:
                client.set_flow_run_state(run.id, Cancelled(message=_words(catch_up)))
    return this.id in {run.id for run in dropped}


def _words(catch_up: int) -> str:
    return f"one of several runs that were missed; the last {catch_up} are made up for (catch_up)"


def _due(client: SyncPrefectClient, this: FlowRun) -> list[FlowRun]:
    """The other scheduled runs of the same deployment whose time has come and that have not begun."""
    assert this.deployment_id is not None
    waiting = FlowRunFilter(
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.SCHEDULED, StateType.PENDING])),
        expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
    )
    same = DeploymentFilter(id=DeploymentFilterId(any_=[this.deployment_id]))
    found: list[FlowRun] = []
    while page := client.read_flow_runs(
        flow_run_filter=waiting, deployment_filter=same, limit=200, offset=len(found)
    ):
        found += page
    return [run for run in found if run.auto_scheduled and run.run_count == 0 and run.id != this.id]


@contextmanager
def one_at_a_time(main: Path) -> Iterator[None]:
    """Hold this machine's lock of the deployment during the body, unless its concurrency limit allows more than one.

    Prefect gives a slot free as soon as the run that held it is deleted or taken for dead, even while its process is
    still saving its state.
    """
    name = runtime.deployment.name
    if name is None or _limit() != 1:
        yield
        return
    path = main / WORK / "locks" / f"{runtime.flow_run.flow_name}-{name}".replace("/", "-")
    path.parent.mkdir(parents=True, exist_ok=True)
    logged = False
    while True:
        with locked(path, wait=False) as free:
            if free:
                yield
                return
        if not logged:
            get_run_logger().info("waiting for the process of an earlier run of %s, which is ending", name)
            logged = True
        time.sleep(ASK_AGAIN_SECONDS)


def _limit() -> int | None:
    with get_client(sync_client=True) as client:
        try:
            limit = client.read_deployment(UUID(str(runtime.deployment.id))).global_concurrency_limit
        except ObjectNotFound:  # deleted meanwhile
            return 1
    return limit.limit if limit else None
