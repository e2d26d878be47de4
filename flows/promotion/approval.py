"""A promotion in Prefect: a person's approval, the artifact with the numbers, the event for notifications."""

from prefect import get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from prefect.states import Running

from flows.promotion.gate import Decision
from flows.promotion.registered_model import Version
from flows.promotion.report import markdown
from flows.promotion.settle import Answer, Candidate, Settlement

PATIENCE_SECONDS = 3 * 86400
POLL_SECONDS = 5
KEY = "promotion"


class Approval(RunInput):
    """What the UI asks for when the flow is resumed."""

    approve: bool
    comment: str = ""


class Approver:
    """Pauses the flow run until somebody resumes it with an `Approval`."""

    def __init__(self, candidate: Candidate, model: str) -> None:
        self.candidate = candidate
        self.model = model

    def __call__(self, decision: Decision, champion: Version | None) -> Answer:
        """The answer; none within three days counts as a no."""
        number = self.candidate.version.number
        title = f"Make version {number} of {self.model} the champion?"
        text = markdown(title, decision.reason, decision.checks, self.candidate.version, champion)
        _tell(self.model, "awaits approval", f"version {number}: {decision.reason}")
        try:
            answer = pause_flow_run(
                wait_for_input=Approval.with_initial_data(description=text),
                timeout=PATIENCE_SECONDS,
                poll_interval=POLL_SECONDS,
            )
        except FlowPauseTimeout:
            with get_client(sync_client=True) as client:  # otherwise the run would stay paused and could not complete
                client.set_flow_run_state(runtime.flow_run.id, Running(), force=True)
            return Answer(False, "expired", "nobody answered in time")
        said = f"{'approved' if answer.approve else 'rejected'} by hand"
        return Answer(answer.approve, "rejected", f"{said}: {answer.comment}" if answer.comment else said)


def publish(model: str, candidate: Candidate, settlement: Settlement) -> None:
    """Leave the artifact and emit the event."""
    event = settlement.event
    title = f"Version {event.version} of {model} is {event.decision}"
    text = markdown(title, event.reason, settlement.checks, candidate.version, settlement.former)
    create_markdown_artifact(text, key=KEY, description="The gate's decision, its numbers and its reason")
    get_run_logger().info("%s: %s", title, event.reason)
    _tell(model, event.decision, f"version {event.version}: {event.reason}")


def _tell(model: str, decision: str, reason: str) -> None:
    emit_event(
        event=f"transformer.promotion.{decision.replace(' ', '-')}",
        resource={"prefect.resource.id": f"transformer.model.{model}", "prefect.resource.name": model},
        payload={"decision": decision, "reason": reason},
    )
