"""What a Prefect server needs before it can run our deployments: `python -m flows.server.setup`, safe to repeat.

Works on the server of PREFECT_API_URL. What a person has changed there (the pool's job template, an automation or a
schedule that is switched off, a deployment's settings) stays as it is; each of the deployments' is named in a note.
"""

import argparse
import sys

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    WorkPoolFilter,
    WorkPoolFilterName,
)
from prefect.client.schemas.objects import FlowRun
from prefect.events.schemas.events import Event, Resource
from prefect.exceptions import ObjectNotFound
from prefect.states import AwaitingRetry, Cancelled, Crashed

from flows.pipeline.server_access import check_server_access
from flows.server.automations import ATTEMPTS, RERUN, create_automations
from flows.server.deployments import UNFINISHED, deploy
from flows.server.serve import NOTE, POOL
from transformer.errors import UserError


def set_up(client: SyncPrefectClient, start_over: bool = False) -> None:
    """Create the work pool and the automations that are missing."""
    try:
        client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
    create_automations(client, start_over=start_over)


def revive_dead_runs(client: SyncPrefectClient) -> None:
    """Schedule the pool's unfinished runs again, as the automation would; runs without attempts left become Crashed.

    Only right while no worker of the pool is alive. The automations can't do it after a restart, because the server
    has then forgotten which heartbeats it waits for.
    """
    pool = WorkPoolFilter(name=WorkPoolFilterName(any_=[POOL]))
    runs = client.read_flow_runs(flow_run_filter=_unfinished(), work_pool_filter=pool)
    while runs:
        for run in runs:
            if run.state_name != "Suspended":  # has no process to lose
                _repeat_last_event(client, run)
                _end_or_revive(client, run)
        runs = client.read_flow_runs(flow_run_filter=_unfinished(parents=runs))


def _repeat_last_event(client: SyncPrefectClient, run: FlowRun) -> None:
    """Send the server the run's last event once more, which the next one names as its predecessor.

    A restarted server has forgotten the events that it saw. It would wait for the predecessor, for up to 15 minutes
    each, before it passes events of this run on to the automations.
    """
    resource = {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name}
    event = Event(id=run.state_id, event="transformer.run.found-dead", resource=Resource(resource))
    client.request("POST", "/events", json=[event.model_dump(mode="json")]).raise_for_status()


def _end_or_revive(client: SyncPrefectClient, run: FlowRun) -> None:
    assert run.state is not None
    ended = "Its process ended with the worker"
    if run.state.is_cancelling():
        client.set_flow_run_state(run.id, Cancelled(message=ended), force=True)
    elif run.deployment_id is None or run.run_count >= ATTEMPTS:
        client.set_flow_run_state(run.id, Crashed(message=ended), force=True)
    else:
        # By way of a terminal state, so that Prefect forgets the run's pauses: otherwise an approval that is asked
        # for again would count as given. Not named Crashed, or the automation would schedule it a second time.
        client.set_flow_run_state(run.id, Crashed(name="Interrupted", message=ended), force=True)
        client.set_flow_run_state(run.id, AwaitingRetry(message=RERUN))


def _unfinished(parents: list[FlowRun] | None = None) -> FlowRunFilter:
    state = FlowRunFilterState(type=FlowRunFilterStateType(any_=UNFINISHED))
    if parents is None:
        return FlowRunFilter(state=state)
    return FlowRunFilter(
        state=state, parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[run.id for run in parents])
    )


def main() -> None:
    """Set the server up and deploy all of prefect.yaml."""
    parser = argparse.ArgumentParser(description="Pool, automations and deployments for PREFECT_API_URL.")
    parser.add_argument("--no-worker-lives", action="store_true", help="run the unfinished runs of the pool again")
    parser.add_argument("--overwrite", action="store_true", help="what prefect.yaml says, not what was changed there")
    arguments = parser.parse_args()
    try:
        check_server_access()
        with get_client(sync_client=True) as client:
            set_up(client, arguments.no_worker_lives)
            if arguments.no_worker_lives:
                revive_dead_runs(client)
            for note in deploy(client, arguments.overwrite):
                print(f"{NOTE}{note}")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except httpx.HTTPError as error:
        sys.exit(f"error: Prefect's server, PREFECT_API_URL, does not answer: {error}")


if __name__ == "__main__":
    main()
