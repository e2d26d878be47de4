"""Have the sources changed? If so, a retraining is started, once for each change."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled
from pydantic import Field

from flows.checkout.workspace import PARAMS, main_workspace
from flows.checkout.worktree import checked_out, resolve
from flows.pipeline.flow import hide_stack_traces
from flows.pipeline.wanted import Check, while_wanted
from flows.retraining.source_check import Drift, link_local_files, source_check
from flows.retraining.turn import missed_too_often, one_at_a_time
from transformer.errors import UserError
from transformer.params import load_params

DEPLOYMENT = "retraining/retraining"
KEY = "drift"


@flow(name="drift")
def drift(
    revision: str = "HEAD", promote: str = "auto", catch_up: Annotated[int, Field(ge=0)] = 1
) -> str | State[Any] | None:
    """Compare the sources of a revision's params.yaml with its registry and its last download; changes no file.

    Servers are first asked for size, ETag and date; a file is fetched and hashed only if these have changed. A change
    starts one run of the deployment `retraining`, however often it is found.

    Args:
        revision: the git revision whose params and registry count.
        promote: passed on to the retraining.
        catch_up: how many of the checks that were missed, while no worker ran, are made up for.

    Returns:
        The id of the retraining's flow run, or None if nothing has changed.
    """
    hide_stack_traces()
    if missed_too_often(catch_up):
        return Cancelled(message="a later scheduled run of the deployment is due, too")
    with while_wanted() as check, one_at_a_time(main_workspace()):
        return _drift(revision, promote, check)


def _drift(revision: str, promote: str, check: Check) -> str | None:
    """As of `drift`; `check` is asked before a retraining is started."""
    main = main_workspace()
    commit = resolve(main, revision)
    with checked_out(main, commit, str(runtime.flow_run.id)[-8:], f"{datetime.now(UTC):%Y-%m-%d}") as worktree:
        params = load_params(worktree.folder / PARAMS)
        link_local_files(main, worktree.folder, params)
        drifts = source_check(main, worktree.folder, params, thorough=False).drifts()
    _publish(params.download.corpora, drifts)
    if not drifts:
        return None
    check()
    parameters = {"revision": commit, "refresh_data": "accept", "promote": promote}
    return _retrain(parameters, hashlib.sha256(json.dumps([drift.problem for drift in drifts]).encode()).hexdigest())


def _retrain(parameters: dict[str, Any], change: str) -> str:
    try:
        run = run_deployment(
            DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=f"drift-{change}"
        )
    except ObjectNotFound:
        raise UserError(
            f"the data has changed and there is no deployment {DEPLOYMENT}: prefect deploy --all"
        ) from None
    get_run_logger().warning("the data has changed: flow run %s retrains", run.name)
    return str(run.id)


def _publish(corpora: list[str], drifts: list[Drift]) -> None:
    lines = [f"- {drift.corpus}: {drift.problem}" for drift in drifts]
    found = lines or ["All sources are what the registry and the last download say."]
    text = "\n".join([f"# Sources of {', '.join(corpora)}", "", *found, ""])
    create_markdown_artifact(text, key=KEY, description="Sources that have changed")
