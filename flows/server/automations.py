"""Prefect automations: dead runs are noticed and run again; failures and promotions are reported to a webhook.

`python -m flows.server.automations --webhook` reads the webhook's URL and keeps it on the server as an encrypted
block; the other automations are created by `flows.server.setup`. Both may be repeated: what exists stays as it is.
"""

import argparse
import getpass
import sys
from datetime import timedelta
from uuid import UUID

from prefect.blocks.webhook import Webhook
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ActionTypes, CallWebhook, ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound
from pydantic import SecretStr

from flows.pipeline.server_access import check_server_access
from transformer.errors import ParamsError, UserError

HEARTBEAT, PENDING, RUNNING = (f"prefect.flow-run.{name}" for name in ("heartbeat", "Pending", "Running"))
SILENCE = timedelta(seconds=90)  # three heartbeats
LONGEST_START = timedelta(minutes=30)  # adding a node to a cluster and pulling an image takes long
ATTEMPTS = 5  # a run that was killed is run again until it has been started this many times
RERUN = "Run again after its process died; training resumes"
PROMOTION = "transformer.promotion.*"
WEBHOOK_BLOCK = "notifications"

ANY_RUN = {"prefect.resource.id": "prefect.flow-run.*"}
# Runs without a deployment were started by a person with `python -m flows.…`, or are part of another run.
OF_A_DEPLOYMENT = {"prefect.resource.id": "prefect.deployment.*", "prefect.resource.role": "deployment"}

RUN_TEXT = (
    '{"text": {{ ("Flow run " ~ flow_run.name ~ " of " ~ flow.name ~ ": " ~ flow_run.state.name ~ ". "'
    ' ~ (flow_run.state.message or "") ~ " " ~ (flow_run | ui_url)) | tojson }}}'
)
PROMOTION_TEXT = (
    '{"text": {{ (event.resource["prefect.resource.name"] ~ ": " ~ event.payload["decision"] ~ ". "'
    ' ~ event.payload["reason"]) | tojson }}}'
)


def _crash(name: str, description: str, after: set[str], alive: set[str], within: timedelta) -> AutomationCore:
    """Mark a run Crashed where none of the events `alive` follows one of `after` in time.

    Neither Crashed nor AwaitingRetry, the states that these automations set, may be among `alive`: a server that is
    still working through the events of the silence would take them for late signs of life, and act again and again.
    """
    trigger = EventTrigger(
        match=ANY_RUN,
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        after=after,
        expect=alive,
        within=within,
    )
    crash = ChangeFlowRunState(state=StateType.CRASHED, message=description)
    return AutomationCore(name=name, description=description, trigger=trigger, actions=[crash])


def life_automations(silence: timedelta = SILENCE) -> list[AutomationCore]:
    """The automations that notice dead runs (no heartbeat for `silence`) and run them again."""
    ends = {f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "TimedOut")}
    waits = {f"prefect.flow-run.{state}" for state in ("Suspended", "Scheduled", "Pending")}
    rerun = ChangeFlowRunState(state=StateType.SCHEDULED, name="AwaitingRetry", message=RERUN)
    crashed = EventTrigger(
        match={**ANY_RUN, "prefect.run-count": [str(count) for count in range(1, ATTEMPTS)]},
        match_related=OF_A_DEPLOYMENT,
        for_each={"prefect.resource.id"},
        posture=Posture.Reactive,
        expect={"prefect.flow-run.Crashed"},
    )
    unseen = "No sign of life from the run's process"
    return [
        _crash("crash-silent-runs", unseen, {HEARTBEAT}, {HEARTBEAT} | ends | waits, silence),
        _crash(
            "crash-runs-that-never-start",
            "Given to a worker and never started",
            {PENDING},
            {RUNNING} | ends | waits,
            LONGEST_START,
        ),
        AutomationCore(
            name="run-crashed-runs-again",
            description=f"A deployment's run that was killed is run again, {ATTEMPTS} times in all",
            trigger=crashed,
            actions=[rerun],
        ),
    ]


def notification_automations(webhook: UUID) -> list[AutomationCore]:
    """The automations that call the webhook of this block."""
    bad_ends = EventTrigger(
        match=ANY_RUN,
        match_related=OF_A_DEPLOYMENT,
        posture=Posture.Reactive,
        expect={f"prefect.flow-run.{state}" for state in ("Failed", "Crashed", "TimedOut")},
    )
    decisions = EventTrigger(posture=Posture.Reactive, expect={PROMOTION})
    return [
        _call(webhook, "tell-bad-ends", "A deployment's run failed or crashed", bad_ends, RUN_TEXT),
        _call(webhook, "tell-promotions", "A promotion was decided or awaits approval", decisions, PROMOTION_TEXT),
    ]


def _call(webhook: UUID, name: str, description: str, trigger: EventTrigger, payload: str) -> AutomationCore:
    actions: list[ActionTypes] = [CallWebhook(block_document_id=webhook, payload=payload)]
    return AutomationCore(name=name, description=description, trigger=trigger, actions=actions)


def create_automations(client: SyncPrefectClient, silence: timedelta = SILENCE, start_over: bool = False) -> None:
    """Create or correct the automations; those for notifications only if the webhook's block exists.

    `start_over` makes the server forget which runs it watches; only right while none of them is alive.
    """
    wanted = life_automations(silence)
    try:
        block = client.read_block_document_by_name(WEBHOOK_BLOCK, "webhook", include_secrets=False)
    except ObjectNotFound:
        pass
    else:
        wanted += notification_automations(block.id)
    for automation in wanted:
        _ensure(client, automation, start_over)


def _ensure(client: SyncPrefectClient, wanted: AutomationCore, start_over: bool) -> None:
    existing = client.read_automations_by_name(wanted.name)
    if not existing:
        client.create_automation(wanted)
        return
    # An update makes the server forget which runs it watches, so an equal automation is not touched. Off stays off.
    found = AutomationCore.model_validate(existing[0].model_dump())
    wanted.enabled = found.enabled
    if start_over or found.model_dump() != wanted.model_dump():
        client.update_automation(existing[0].id, wanted)


def save_webhook(url: str) -> None:
    """Keep the URL on the server, encrypted.

    Raises:
        ParamsError: it is not the address of a web server.
    """
    if not url.startswith(("http://", "https://")):
        raise ParamsError("the webhook's URL must start with http:// or https://")
    block = Webhook(url=SecretStr(url), headers={"Content-Type": "application/json"})
    block.save(WEBHOOK_BLOCK, overwrite=True)


def main() -> None:
    """Create the automations, and with `--webhook` the block that the notifications need."""
    parser = argparse.ArgumentParser(description="Create the automations on the server of PREFECT_API_URL.")
    parser.add_argument("--webhook", action="store_true", help="read the URL for notifications from the terminal")
    try:
        arguments = parser.parse_args()
        check_server_access()
        if arguments.webhook:
            ask = "URL that notifications are posted to: "
            save_webhook((getpass.getpass(ask) if sys.stdin.isatty() else sys.stdin.readline()).strip())
        with get_client(sync_client=True) as client:
            create_automations(client)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
