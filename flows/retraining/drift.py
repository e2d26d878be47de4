"""Have the sources changed? If so, a retraining is started, once for each change."""

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_markdown_artifact
from prefect.deployments import run_deployment
from prefect.exceptions import ObjectNotFound

from flows.checkout.preflight import read_params
from flows.checkout.workspace import main_workspace
from flows.checkout.worktree import checked_out, resolve
from flows.pipeline.flow import hide_stack_traces
from flows.retraining.source_check import Drift, link_local_files, source_check
from transformer.errors import UserError

DEPLOYMENT = "retraining/retraining"
KEY = "drift"


@flow(name="drift")
def drift(revision: str = "HEAD", promote: str = "auto") -> str | None:
    """Compare the sources of a revision's params.yaml with its registry and its last download; changes no file.

    Servers are first asked for size, ETag and date; a file is fetched and hashed only if these have changed. A change
    starts one run of the deployment `retraining`, however often it is found.

    Args:
        revision: the git revision whose params and registry count.
        promote: passed on to the retraining.

    Returns:
        The id of the retraining's flow run, or None if nothing has changed.
    """
    hide_stack_traces()
    main = main_workspace()
    commit = resolve(main, revision)
    with checked_out(main, commit, str(runtime.flow_run.id)[-8:], f"{datetime.now(UTC):%Y-%m-%d}") as worktree:
        params = read_params(worktree.folder)
        link_local_files(main, worktree.folder, params)
        drifts = source_check(main, worktree.folder, params, thorough=False).drifts()
    _publish(params.download.corpora, drifts)
    if not drifts:
        return None
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
