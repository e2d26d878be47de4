"""A flow run goes on only as long as Prefect wants it.

A worker ends the process of a run that is cancelled. Nobody ends that of a run which was deleted, whose state was set
by hand, or which was taken for dead and now runs again elsewhere: it has to notice by itself.
"""

import contextvars
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from uuid import UUID

import httpx
from prefect import get_run_logger, runtime
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.exceptions import Abort, ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import get_current_settings
from prefect.states import Cancelled

from transformer.errors import UserError

POLL_SECONDS = 5.0
CANCEL_SECONDS = 30.0  # for the worker to end a run that is being cancelled; then it ends itself
PATIENCE_SECONDS = 60.0  # with a server that is away at a moment when the answer is needed
OURS = {StateType.RUNNING, StateType.PAUSED, StateType.CANCELLING}  # of a run that has begun and is still ours
_AWAY = (httpx.HTTPError, PrefectHTTPStatusError)

Check = Callable[[], None]


class NoLongerWanted(Abort):
    """Prefect's engine ends a run with it without reporting a state, which would be that of somebody else's run."""


class _Run:
    """This process's flow run as the server knows it."""

    def __init__(self, run: UUID) -> None:
        self.id = run
        with get_client(sync_client=True) as client:
            self._before = {state.id for state in client.read_flow_run_states(run)}
        self._cancelling: float | None = None

    def reason_to_end(self, patience: float) -> str | None:
        """Why it is to end, or None; a run that is being cancelled is given `patience` seconds.

        Raises:
            httpx.HTTPError, PrefectHTTPStatusError: the server is away.
        """
        with get_client(sync_client=True) as client:
            try:
                state = client.read_flow_run(self.id).state
            except ObjectNotFound:
                return "it was deleted"
            since = [state for state in client.read_flow_run_states(self.id) if state.id not in self._before]
            if foreign := [state for state in since if state.type not in OURS]:
                return f"its state was set to {foreign[0].name}"
            if state is None or not state.is_cancelling():
                return None
            self._cancelling = self._cancelling or time.monotonic()
            if time.monotonic() - self._cancelling < patience:
                return None
            self._cancel(client)
            return "it was cancelled"

    def _cancel(self, client: SyncPrefectClient) -> None:
        client.set_flow_run_state(self.id, Cancelled(message="ended by its own process"), force=True)


@contextmanager
def while_wanted() -> Iterator[Check]:
    """Run the body of a flow; end it with `NoLongerWanted` soon after its run was deleted, ended or taken over.

    Yields a check to call before what can't be undone; it raises `NoLongerWanted` or, where the server does not
    answer for a minute, `UserError`. Part of another run, or on Prefect's ephemeral server, which nobody else can
    reach, a run is always wanted.
    """
    if runtime.flow_run.parent_flow_run_id is not None or get_current_settings().api.url is None:
        yield lambda: None
        return
    run, ended = _Run(UUID(str(runtime.flow_run.id))), threading.Event()
    reason: list[str] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        ended.set()
        raise NoLongerWanted(f"the flow run is not wanted any more: {reason[0]}")

    def watch() -> None:
        while not ended.wait(POLL_SECONDS):
            try:
                found = run.reason_to_end(CANCEL_SECONDS)
            except _AWAY:
                continue  # the next look may find it
            if found and not ended.is_set():
                reason.append(found)
                os.kill(os.getpid(), signal.SIGUSR1)
                return

    former = signal.signal(signal.SIGUSR1, end)
    context = contextvars.copy_context()  # Prefect's settings are in it
    thread = threading.Thread(target=context.run, args=(watch,), name="wanted", daemon=True)
    thread.start()
    try:
        yield lambda: _check(run)
    except NoLongerWanted as error:
        get_run_logger().warning("%s", error)
        raise
    finally:
        ended.set()
        thread.join()
        signal.signal(signal.SIGUSR1, former)


def _check(run: _Run) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            reason = run.reason_to_end(patience=0.0)
            break
        except _AWAY as error:
            if time.monotonic() > deadline:
                raise UserError(
                    f"Prefect's server does not say whether this run is still wanted: {type(error).__name__}"
                ) from None
            time.sleep(1)
    if reason:
        raise NoLongerWanted(f"the flow run is not wanted any more: {reason}")
