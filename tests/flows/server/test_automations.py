"""Automations on a real server: silent runs crash and run again, within bounds; a webhook hears of it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import FlowRun
from prefect.events import emit_event
from prefect.states import Cancelling, Completed, Crashed, Failed, Paused, Running, State
from prefect_server import PrefectServer, until

from flows.server.automations import ATTEMPTS, HEARTBEAT, PROMOTION, create_automations
from flows.server.setup import revive_dead_runs, set_up

CHECKOUT = Path(__file__).parents[3]
SILENCE = timedelta(seconds=10)  # the shortest that Prefect takes


# A run whose heartbeats are Prefect's own; it has no deployment, so nothing can start it again.
PROCESS = """
import time
from prefect import flow

@flow(flow_run_name="by-hand")
def by_hand() -> None:
    time.sleep(600)

by_hand()
"""


@flow
def watched() -> None:
    """Never called: its runs are moved through their states by hand."""


@pytest.fixture(scope="module")
def client(prefect_server: PrefectServer) -> Iterator[SyncPrefectClient]:
    """A client of a server with the automations; whatever the tests emit goes there too."""
    with prefect_server.connected():
        set_up(prefect_server.client)
        create_automations(prefect_server.client, SILENCE)
        yield prefect_server.client


@pytest.fixture(scope="module")
def deployment(client: SyncPrefectClient) -> UUID:
    """A deployment whose runs nobody takes, as no worker is there, on a server that has begun to watch."""
    made: UUID = client.create_deployment(client.create_flow(watched), "watched", work_pool_name="local")

    def watches() -> bool:
        witness = new_run(client, made, Running(), Crashed())
        time.sleep(2)
        return state_of(client, witness)[0] == "AwaitingRetry"

    until(watches, what="the server's automations to act")
    return made


def new_run(client: SyncPrefectClient, deployment: UUID, *states: State[Any]) -> UUID:
    """A run of the deployment that goes through the states."""
    run: UUID = client.create_flow_run_from_deployment(deployment).id
    for state in states:
        client.set_flow_run_state(run, state, force=True)
    return run


def state_of(client: SyncPrefectClient, run: UUID) -> tuple[str, int]:
    """Name of the state, and how often the run has started."""
    found: FlowRun = client.read_flow_run(run)
    return found.state_name or "", found.run_count


def history(client: SyncPrefectClient, run: UUID) -> list[str]:
    """Names of the states that the run has been in, oldest first."""
    found = client.request("GET", "/flow_run_states/", params={"flow_run_id": str(run)}).json()
    return [state["name"] for state in sorted(found, key=lambda state: state["timestamp"])]


def beat(run: UUID) -> None:
    """The sign of life that a run's process sends."""
    emit_event(HEARTBEAT, {"prefect.resource.id": f"prefect.flow-run.{run}", "prefect.resource.name": "beating"})


def killed_run(client: SyncPrefectClient, server: PrefectServer) -> UUID:
    """A flow run whose process has been killed after its first heartbeat."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS], env=server.environment | {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
    )

    def heartbeats() -> list[dict[str, Any]]:
        asked = {"filter": {"event": {"name": [HEARTBEAT]}, "order": "DESC"}}
        events = client.request("POST", "/events/filter", json=asked).json()["events"]
        return [event for event in events if event["resource"]["prefect.resource.name"] == "by-hand"]

    try:
        until(lambda: bool(heartbeats()), what="the first heartbeat")
    finally:
        process.kill()
        process.wait()
    return UUID(heartbeats()[0]["resource"]["prefect.resource.id"].rpartition(".")[2])


def test_silent_runs_are_run_again_and_only_those(
    deployment: UUID, client: SyncPrefectClient, prefect_server: PrefectServer
) -> None:
    killed = killed_run(client, prefect_server)
    silent, alive, done = (new_run(client, deployment, Running()) for _ in range(3))
    for run in (silent, alive, done):
        beat(run)
    client.set_flow_run_state(done, Completed())

    def both_found() -> bool:
        beat(alive)
        time.sleep(2)
        return state_of(client, silent)[0] == "AwaitingRetry" and state_of(client, killed)[0] == "Crashed"

    until(both_found, what="the silent runs to be found")
    time.sleep(2)  # a server that acted on one silence several times would have done so by now
    assert history(client, silent) == ["Scheduled", "Running", "Crashed", "AwaitingRetry"]
    assert history(client, killed) == ["Pending", "Running", "Crashed"]
    assert state_of(client, alive) == ("Running", 1)
    assert state_of(client, done)[0] == "Completed"


def test_a_run_that_always_crashes_is_left_alone_in_the_end(client: SyncPrefectClient, deployment: UUID) -> None:
    run = new_run(client, deployment)
    for attempt in range(1, ATTEMPTS + 1):
        client.set_flow_run_state(run, Running(), force=True)
        client.set_flow_run_state(run, Crashed(message="killed"), force=True)
        if attempt < ATTEMPTS:
            until(lambda: state_of(client, run)[0] == "AwaitingRetry", what=f"attempt {attempt} to be followed")
    witness = new_run(client, deployment, Running(), Crashed())  # events are handled in order
    until(lambda: state_of(client, witness)[0] == "AwaitingRetry", what="the witness")
    assert state_of(client, run) == ("Crashed", ATTEMPTS)


def test_after_a_restart_unfinished_runs_go_on(client: SyncPrefectClient, deployment: UUID) -> None:
    running = new_run(client, deployment, Running())
    waiting = new_run(client, deployment, Running())
    client.set_flow_run_state(waiting, Paused(pause_key="1"))
    assert client.read_flow_run(waiting).empirical_policy.pause_keys == {"1"}
    suspended = new_run(client, deployment, Running(), Paused(name="Suspended"))
    cancelling = new_run(client, deployment, Running(), Cancelling())
    tired = new_run(client, deployment, *[Running(), Paused()] * ATTEMPTS)
    finished = new_run(client, deployment, Running(), Completed())
    revive_dead_runs(client)
    assert state_of(client, running) == ("AwaitingRetry", 1)
    assert state_of(client, waiting)[0] == "AwaitingRetry"
    assert client.read_flow_run(waiting).empirical_policy.pause_keys == set()  # asks again
    assert state_of(client, suspended)[0] == "Suspended"
    assert state_of(client, cancelling)[0] == "Cancelled"
    assert state_of(client, tired) == ("Crashed", ATTEMPTS)
    assert state_of(client, finished)[0] == "Completed"


def test_automations_act_at_once_on_a_run_that_was_revived(
    client: SyncPrefectClient, deployment: UUID, prefect_server: PrefectServer
) -> None:
    run = new_run(client, deployment, Running())
    prefect_server.restart()
    revive_dead_runs(client)
    assert state_of(client, run) == ("AwaitingRetry", 1)
    client.set_flow_run_state(run, Running(), force=True)
    client.set_flow_run_state(run, Crashed(), force=True)
    until(lambda: state_of(client, run) == ("AwaitingRetry", 2), what="the second re-run")  # else in 15 minutes


def test_automations_are_created_once_and_corrected(client: SyncPrefectClient) -> None:
    def automations() -> dict[str, dict[str, Any]]:
        found = client.request("POST", "/automations/filter", json={}).json()
        assert len({automation["name"] for automation in found}) == len(found)
        return {automation["name"]: automation for automation in found}

    before = automations()
    create_automations(client, SILENCE)
    assert automations() == before  # trigger ids too: a new one would forget which runs are watched
    silent = "crash-silent-runs"
    client.pause_automation(UUID(before[silent]["id"]))
    create_automations(client, 2 * SILENCE)
    after = automations()
    assert (after[silent]["trigger"]["within"], after[silent]["enabled"]) == (20.0, False)
    assert after[silent]["id"] == before[silent]["id"]
    assert {name for name in after if after[name]["trigger"] != before[name]["trigger"]} == {silent}
    client.resume_automation(UUID(before[silent]["id"]))


@pytest.fixture
def sink() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of an HTTP server on loopback, and what was posted to it."""
    posted: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            posted.append({"type": self.headers["Content-Type"], "path": self.path, **json.loads(body)})
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook/s3cret-path", posted
    server.shutdown()
    thread.join()
    server.server_close()


def notify_command(server: PrefectServer, url: str) -> "subprocess.CompletedProcess[str]":
    """`python -m flows.server.automations --webhook` with the URL on its standard input."""
    command = [sys.executable, "-m", "flows.server.automations", "--webhook"]
    return subprocess.run(
        command, cwd=CHECKOUT, env=server.environment, input=f"{url}\n", capture_output=True, text=True, timeout=120
    )


def test_failures_and_promotions_reach_a_webhook_whose_address_stays_secret(
    client: SyncPrefectClient, deployment: UUID, prefect_server: PrefectServer, sink: tuple[str, list[dict[str, Any]]]
) -> None:
    url, posted = sink
    refused = notify_command(prefect_server, "ftp://example.org")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: the webhook's URL must start with http:// or https://\n",
    )
    done = notify_command(prefect_server, url)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
    run = new_run(client, deployment, Running(), Failed(message='stage train: loss is "nan"'))
    new_run(client, deployment, Running(), Completed())
    emit_event(
        PROMOTION.replace("*", "rejected"),
        {"prefect.resource.id": "transformer.model.transformer-en-de", "prefect.resource.name": "transformer-en-de"},
        payload={"decision": "rejected", "reason": "version 7: BLEU is 1.2 lower (p = 0.01)"},
    )
    until(lambda: len(posted) == 2, what="two notifications")
    texts = sorted(message["text"] for message in posted)
    name = client.read_flow_run(run).name
    assert texts[0].startswith(f'Flow run {name} of watched: Failed. stage train: loss is "nan" http')
    assert texts[0].endswith(f"/runs/flow-run/{run}")
    assert texts[1] == "transformer-en-de: rejected. version 7: BLEU is 1.2 lower (p = 0.01)"
    assert {(message["type"], message["path"]) for message in posted} == {("application/json", "/hook/s3cret-path")}
    stored = b"".join(path.read_bytes() for path in Path(prefect_server.folder, "home").glob("prefect.db*"))
    assert b"watched" in stored
    assert b"s3cret-path" not in stored
