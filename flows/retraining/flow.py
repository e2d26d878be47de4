"""Retraining on a branch of its own, away from the user's workspace, and the decision whether the result is better.

Deployed by prefect.yaml; its parameters are checked before anything starts.
"""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from dvc.config import Config
from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from pydantic import Field

from flows.checkout.preflight import check_machine
from flows.checkout.workspace import MODEL, PARAMS, REGISTRY, REPORTS, main_workspace, model_name, tracking_uri
from flows.checkout.worktree import Worktree, checked_out, read_at, resolve
from flows.pipeline.flow import hide_stack_traces, pipeline
from flows.retraining.overrides import overridden
from flows.retraining.source_check import accept, link_local_files, source_check
from transformer.data.download.chosen import check_choice
from transformer.data.download.corpora import parse_corpora
from transformer.errors import DataError, UserError
from transformer.files import sha256_of, write_text
from transformer.params import Params

if TYPE_CHECKING:
    from flows.promotion.registered_model import RegisteredModel, Version
    from flows.promotion.settle import Rule

DVC = [sys.executable, "-m", "dvc", "--wait-for-lock"]
PUSH_RETRIES = 3
PUSH_RETRY_SECONDS = 60


@flow(name="retraining")
def retraining(
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    revision: str = "HEAD",
    refresh_data: Literal["no", "refuse", "accept"] = "no",
    promote: Literal["auto", "never", "manual"] = "auto",
    significance: Annotated[float, Field(gt=0, lt=1)] = 0.05,
) -> dict[str, str]:
    """Train at a revision, commit the results on `retraining/<date>-<id>`, and let the gate decide on the champion.

    Args:
        preset: a file of presets/, without its suffix; default: the revision's params.yaml.
        overrides: dotted keys of the params, as {"training.updates": 8000}.
        revision: the git revision whose code, params and corpus registry are used.
        refresh_data: `refuse` fetches the sources again and fails if one has changed, `accept` trains on the changed
            ones; `no` uses what was fetched before.
        promote: `auto` moves the alias `champion` if the gate passes, `manual` asks first, `never` only compares.
        significance: a score counts as worse if the p-value of its paired bootstrap is below this.

    Returns:
        branch, commit, version, decision, reason.
    """
    hide_stack_traces()
    main = main_workspace()
    commit, origin, changes = resolve(main, revision), params_file(preset), overrides or {}
    _, params = overridden(read_at(main, commit, origin), origin, changes)
    check_choice(params, Path(REGISTRY), parse_corpora(read_at(main, commit, REGISTRY), REGISTRY))
    check_machine(params.compute)
    short = str(runtime.flow_run.id)[-8:]  # the first characters are the time
    with checked_out(main, commit, short, f"{datetime.now(UTC):%Y-%m-%d}") as worktree:
        get_run_logger().info("branch %s from %s, in %s", worktree.branch, commit[:10], worktree.folder)
        params = _write_params(worktree, origin, changes)
        link_local_files(main, worktree.folder, params)
        if refresh_data != "no":
            refresh(main, worktree, params, refresh_data)
        pipeline(str(worktree.folder))
        deliver_records(main)
        results = worktree.commit("Retraining: results")
        push(worktree.folder)
        return settle_candidate(main, worktree, params, results, promote, significance)


def params_file(preset: str | None) -> str:
    """The path of a preset in the repository; without one, that of the params in use."""
    return f"presets/{preset}.yaml" if preset else PARAMS


def _write_params(worktree: Worktree, origin: str, overrides: dict[str, Any]) -> Params:
    """Commit the params before the stages run, so that their records name a commit that holds them."""
    text, params = overridden((worktree.folder / origin).read_text(encoding="utf-8"), origin, overrides)
    write_text(worktree.folder / PARAMS, text)
    changes = "".join(f"\n{key} = {value}" for key, value in overrides.items())
    worktree.commit(f"Retraining: params of {origin}\n{changes}")
    return params


def refresh(main: Path, worktree: Worktree, params: Params, mode: Literal["refuse", "accept"]) -> None:
    """Fetch every source again; if one has changed, fail or commit a registry with the new hash, depending on `mode`.

    Raises:
        DataError: a source has changed and `mode` is `refuse`.
    """
    found = source_check(main, worktree.folder, params, thorough=True).drifts()
    drifts = [drift for drift in found if drift.kind in ("source", "file")]  # DVC sees the others itself
    for drift in drifts:
        get_run_logger().warning("%s: %s", drift.corpus, drift.problem)
    if not drifts:
        get_run_logger().info("no source has changed")
        return
    if mode == "refuse":
        more = f" and {len(drifts) - 1} more" if drifts[1:] else ""
        raise DataError(f"{drifts[0].corpus}: {drifts[0].problem}{more}: retrain with refresh_data = accept")
    accept(worktree.folder, drifts)
    worktree.commit("Retraining: sources have changed")
    # DVC does not track files outside data/. If the registry has changed, DVC would run this stage by itself.
    _command([*DVC, "repro", "--force", "--single-item", "download"], worktree.folder)


def deliver_records(main: Path) -> None:
    """Wait until MLflow has all records, the new model version among them."""
    _command([sys.executable, "-m", "flows.tracking.send", "--wait"], main)


@task(cache_policy=NO_CACHE, retries=PUSH_RETRIES, retry_delay_seconds=PUSH_RETRY_SECONDS)
def push(workspace: Path) -> None:
    """Push the workspace's data and models to DVC's default remote, if there is one.

    Raises:
        UserError: the transfer fails; the message is DVC's own.
    """
    remote = Config(str(workspace / ".dvc"), validate=False).read().get("core", {}).get("remote")
    if remote is None:
        get_run_logger().info("DVC has no default remote: nothing is pushed")
        return
    _command([*DVC, "push"], workspace)


def settle_candidate(
    main: Path, worktree: Worktree, params: Params, commit: str, rule: "Rule", significance: float
) -> dict[str, str]:
    """Let the gate decide, and leave the decision in MLflow, in Prefect and on the branch."""
    # Here, because importing MLflow takes seconds and training does not need it.
    from flows.promotion.approval import Approver, publish
    from flows.promotion.registered_model import RegisteredModel
    from flows.promotion.report import TABLE, append_line
    from flows.promotion.settle import Candidate, settle
    from flows.promotion.translations import evaluated

    registered = RegisteredModel(tracking_uri(), model_name(params.languages))
    candidate = Candidate(
        version=_registered(registered, worktree, main),
        tests=evaluated(worktree.folder / REPORTS, params.evaluation.test_sets),
        language=params.languages.target,
        branch=worktree.branch,
        commit=commit,
        flow_run=str(runtime.flow_run.id),
        bleu_tokenizer=params.evaluation.bleu_tokenizer,
    )
    settlement = settle(main, candidate, registered, rule, significance, Approver(candidate, registered.name))
    append_line(worktree.folder / TABLE, candidate, settlement)
    worktree.commit(f"Retraining: version {candidate.version.number} is {settlement.event.decision}")
    publish(registered.name, candidate, settlement)
    decided = {"decision": settlement.event.decision, "reason": settlement.event.reason}
    return {"branch": worktree.branch, "commit": commit, "version": candidate.version.number, **decided}


def _registered(registered: "RegisteredModel", worktree: Worktree, main: Path) -> "Version":
    """The version of the worktree's model; if it came from DVC's cache and was never registered, average again.

    Raises:
        UserError: it is not registered even then.
    """
    sha256 = sha256_of(worktree.folder / MODEL)
    if version := registered.find(sha256):
        return version
    _command([*DVC, "repro", "--force", "--single-item", "average"], worktree.folder)
    deliver_records(main)
    if version := registered.find(sha256):
        return version
    raise UserError(f"the model {sha256[:12]} is not registered at {registered.uri}: start MLflow and run again")


def _command(command: list[str], folder: Path) -> None:
    """Run a command with its output in the flow's log.

    Raises:
        UserError: it fails; names the last line of its output.
    """
    done = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = [line for line in done.stdout.splitlines() if line.strip()]
    for line in lines:
        get_run_logger().info("%s", line)
    if done.returncode != 0:
        raise UserError(f"{' '.join(command[1:4])}: {lines[-1] if lines else f'exit status {done.returncode}'}")
