"""Stages tagged `gpu` take turns across all flow runs: Prefect's global concurrency limit of that name."""

import logging
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import get_current_settings

from flows.processes import groups
from flows.records.dvc_files import GPU_TAG

LIMIT = GPU_TAG
LEASE_SECONDS = 60.0  # Prefect's shortest; a killed flow's slot is free again after it
ASK_AGAIN_SECONDS = 3.0


@contextmanager
def gpu_slot(run: str, tags: list[str]) -> Iterator[None]:
    """Hold the slot during the body of a stage with the tag; waits for it until flow run `run` is stopped.

    On Prefect's ephemeral server nobody else could hold the slot, and nobody would release that of a killed run;
    there only the machine's own lock (`flows.stages.gpu_lock`) is used.

    Raises:
        RunStopped: the run is ending.
    """
    if LIMIT not in tags or get_current_settings().api.url is None:
        yield
        return
    slot = _wait_for_slot(run)
    try:
        yield
    finally:
        try:
            slot.__exit__(None, None, None)
        except Exception as error:  # the stage is done; a server that is down releases the slot by itself later
            get_run_logger().warning("the slot of limit %r could not be given back: %s", LIMIT, error)


def _wait_for_slot(run: str) -> AbstractContextManager[None]:
    _create_limit()
    logging.getLogger("prefect._internal.concurrency").addFilter(_is_no_timeout)
    logged = False
    while True:
        slot: AbstractContextManager[None] = concurrency(
            LIMIT,
            timeout_seconds=ASK_AGAIN_SECONDS,
            lease_duration=LEASE_SECONDS,
            strict=True,
            raise_on_lease_renewal_failure=False,  # a server that is down for minutes must not end a training
        )
        try:
            slot.__enter__()
        except TimeoutError:
            if groups.is_stopped(run):
                raise groups.RunStopped from None
            if not logged:
                get_run_logger().info("waiting for a slot of the concurrency limit %r", LIMIT)
                logged = True
        else:
            return slot


def _is_no_timeout(record: logging.LogRecord) -> bool:
    """Hide the error that Prefect logs at each time-out while we wait for the slot: we have said that we wait."""
    return not (isinstance(sys.exception(), TimeoutError) and "ConcurrencySlotAcquisition" in record.getMessage())


def _create_limit() -> None:
    """Create the limit if it does not exist; one that somebody has set stays as it is."""
    with get_client(sync_client=True) as client:
        try:
            client.read_global_concurrency_limit_by_name(LIMIT)
        except ObjectNotFound:
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=1))
