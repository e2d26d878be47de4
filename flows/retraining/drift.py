"""Have the sources changed? If so, a retraining is started, once for each change."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound
from prefect.states import Cancelled, Completed
from pydantic import Field

from flows.checkout.own_store import DATABASE
from flows.checkout.preflight import read_params
from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import main_workspace, model_name, tracking_uri
from flows.checkout.worktree import checked_out, resolve
from flows.markdown import plain
from flows.pipeline.flow import hide_stack_traces
from flows.pipeline.wanted import Check, while_wanted
from flows.retraining.source_check import Drift, link_local_files, source_check
from flows.retraining.start import Start
from flows.retraining.turn import missed_too_often, one_at_a_time
from transformer.errors import UserError

if TYPE_CHECKING:
    from flows.promotion.registered_model import Event

DEPLOYMENT = "retraining/retraining"
KEY = "drift"


@flow(name="drift")
def drift(
    revision: str = "HEAD",
    promote: str = "auto",
    catch_up: Annotated[int, Field(ge=0)] = 1,
    start: Start | None = None,
) -> State[Any]:
    """Compare the sources of a revision's params.yaml with its registry and its last download; changes no file.

    What was done to the champion in MLflow itself is kept in its history, too.

    Servers are first asked for size, ETag and date; a file is fetched and hashed only if these have changed. A change
    starts one run of the deployment `retraining`, however often it is found.

    Args:
        revision: the git revision whose params and registry count.
        promote: passed on to the retraining.
        catch_up: how many of the checks that were missed, while no worker ran, are made up for.
        start: passed on to the retraining.

    Returns:
        Completed, with the id of the retraining's flow run or None; Cancelled for a check that is not made up for.
    """
    hide_stack_traces()
    if missed_too_often(catch_up):
        return Cancelled(message="a later scheduled run of the deployment is due, too")
    with while_wanted() as check, one_at_a_time(main_workspace()):
        return _drift(revision, promote, start, check)


def _drift(revision: str, promote: str, start: Start | None, check: Check) -> State[Any]:
    """As of `drift`; `check` is asked before a retraining is started."""
    main = main_workspace()
    use_private_site_cache(main)
    commit = resolve(main, revision)
    with checked_out(main, commit, str(runtime.flow_run.id)[-8:], f"{datetime.now(UTC):%Y-%m-%d}") as worktree:
        params = read_params(worktree.folder)
        link_local_files(main, worktree.folder, params)
        drifts = source_check(main, worktree.folder, params, thorough=False).drifts()
    _publish(params.download.corpora, drifts)
    if event := notice_champion(main, tracking_uri(), model_name(params.languages)):
        get_run_logger().warning("%s is %s: see python -m flows.promotion", event.version, event.decision)
    if not drifts:
        return _ended(f"no source of {', '.join(params.download.corpora)} has changed", None)
    check()
    parameters = {"revision": commit, "refresh_data": "accept", "promote": promote}
    parameters |= {"start": start} if start else {}
    change = hashlib.sha256(json.dumps([drift.problem for drift in drifts]).encode()).hexdigest()
    run = _retrain(parameters, change)
    changed = f"{len(drifts)} source{'s have' if drifts[1:] else ' has'} changed"
    return _ended(f"{changed}: flow run {run.name} retrains", str(run.id))


def notice_champion(main: Path, uri: str, model: str) -> "Event | None":
    """What was done to the champion in MLflow itself; a store that is away is asked another night."""
    if uri.startswith("sqlite:") and not (main / DATABASE).exists():  # asking would create it
        return None
    from mlflow.exceptions import MlflowException  # here: MLflow takes seconds to import

    from flows.promotion.registered_model import RegisteredModel, deciding

    try:
        with deciding(main):
            return RegisteredModel(uri, model).notice()
    except MlflowException:
        return None


def _ended(conclusion: str, run: str | None) -> State[Any]:
    """The flow's final state, with the conclusion as its message and the last line of its log."""
    get_run_logger().info("%s", conclusion)
    return Completed(message=conclusion, data=run)


def _retrain(parameters: dict[str, Any], change: str) -> FlowRun:
    try:
        run: FlowRun = run_deployment(
            DEPLOYMENT, parameters=parameters, timeout=0, as_subflow=False, idempotency_key=f"drift-{change}"
        )
    except ObjectNotFound:
        raise UserError(
            f"the data has changed and there is no deployment {DEPLOYMENT}: python -m flows.server.setup"
        ) from None
    return run


def _publish(corpora: list[str], drifts: list[Drift]) -> None:
    lines = [f"- {plain(drift.corpus)}: {plain(drift.problem)}" for drift in drifts]
    found = lines or ["All sources are what the registry and the last download say."]
    text = "\n".join([f"# Sources of {plain(', '.join(corpora))}", "", *found, ""])
    create_markdown_artifact(text, key=KEY, description="Sources that have changed")
