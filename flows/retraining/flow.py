"""Retraining on a branch of its own, away from the user's workspace, and the decision whether the result is better.

Deployed by prefect.yaml; its parameters are checked before anything starts. All that the end of a retraining needs is
imported here, at its beginning: the user may switch the checkout's branch while it trains.
"""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from dvc.config import Config
from prefect import flow, get_run_logger, runtime, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Cancelled
from pydantic import Field

import flows.tracking.delivery  # noqa: F401  # which `send` imports only when it delivers
from flows.checkout.preflight import check_evaluation, check_machine
from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import (
    MODEL,
    PARAMS,
    REGISTRY,
    main_workspace,
    model_name,
    tracking_folder,
    tracking_uri,
)
from flows.checkout.worktree import Worktree, checked_out, read_at, resolve
from flows.pipeline.flow import hide_stack_traces, pipeline
from flows.pipeline.wanted import Check, while_wanted
from flows.promotion.approval import Approver, publish
from flows.promotion.gate import TestTranslations
from flows.promotion.provenance import demanded
from flows.promotion.registered_model import RegisteredModel, Version
from flows.promotion.report import TABLE, append_line
from flows.promotion.settle import Candidate, Rule, settle
from flows.promotion.translations import committed, evaluated, search_of
from flows.retraining.overrides import overridden
from flows.retraining.source_check import accept, link_local_files, source_check
from flows.retraining.start import Start, with_start
from flows.retraining.turn import missed_too_often, one_at_a_time
from flows.tracking import send
from transformer.credentials import without_credentials
from transformer.data.download.chosen import check_choice
from transformer.data.download.corpora import parse_corpora
from transformer.errors import DataError, UserError
from transformer.files import sha256_of, write_text
from transformer.params import Params, parse_params

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
    catch_up: Annotated[int, Field(ge=0)] = 1,
    start: Start | None = None,
    mix: Annotated[float, Field(ge=0, le=1)] | None = None,
) -> dict[str, str] | State[Any]:
    """Train at a revision, commit the results on `retraining/<date>-<id>`, and let the gate decide on the champion.

    Args:
        preset: a file of presets/, without its suffix; default: the revision's params.yaml.
        overrides: dotted keys of the params, as {"training.updates": 8000}.
        revision: the git revision whose code, params and corpus registry are used.
        refresh_data: `refuse` fetches the sources again and fails if one has changed, `accept` trains on the changed
            ones; `no` uses what was fetched before.
        promote: `auto` moves the alias `champion` if the gate passes, `manual` asks first, `never` only compares.
        significance: a score counts as worse if the p-value of its paired bootstrap is below this.
        catch_up: how many of the scheduled runs that were missed while no worker ran are made up for: the last ones.
        start: `champion` begins with the weights and the vocabulary of the champion, `scratch` with random ones;
            default: as training.start_from says.
        mix: share of the pairs that the champion was trained on, which are replayed beside the new ones; default: as
            preparation.mix says.

    Returns:
        branch, commit, version, decision, reason; Cancelled for a missed run that is not made up for.
    """
    hide_stack_traces()
    if missed_too_often(catch_up):
        return Cancelled(message="a later scheduled run of the deployment is due, too")
    with while_wanted() as check, one_at_a_time(main_workspace()):
        changes = {**(overrides or {}), **({} if mix is None else {"preparation.mix": mix})}
        return _retrain(preset, changes, start, revision, refresh_data, promote, significance, check)


def _retrain(
    preset: str | None,
    overrides: dict[str, Any],
    start: Start | None,
    revision: str,
    refresh_data: Literal["no", "refuse", "accept"],
    promote: Rule,
    significance: float,
    check: Check,
) -> dict[str, str]:
    """As of `retraining`; `check` is asked before what can't be undone."""
    main = main_workspace()
    use_private_site_cache(main)
    commit, origin = resolve(main, revision), params_file(preset)
    text = read_at(main, commit, origin)
    changes = with_start(start, overrides, parse_params(text, origin))
    _, params = overridden(text, origin, changes)
    check_choice(params, Path(REGISTRY), parse_corpora(read_at(main, commit, REGISTRY), REGISTRY))
    check_evaluation(params.evaluation)
    check_machine(params)
    short = str(runtime.flow_run.id)[-8:]  # the first characters are the time
    with checked_out(main, commit, short, f"{datetime.now(UTC):%Y-%m-%d}") as worktree:
        get_run_logger().info("branch %s from %s, in %s", worktree.branch, commit[:10], worktree.folder)
        params = _write_params(worktree, origin, changes)
        link_local_files(main, worktree.folder, params)
        if refresh_data != "no":
            refresh(main, worktree, params, refresh_data)
        pipeline(str(worktree.folder))
        deliver_records()
        results = worktree.commit("Retraining: results")
        check()
        push(worktree.folder)
        return settle_candidate(main, worktree, params, (commit, results), promote, significance, check)


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


def deliver_records() -> None:
    """Wait until MLflow has all records, the new model version among them; what it does not take is in the log."""
    if problem := send.deliver(tracking_folder()):
        get_run_logger().warning("%s", problem)


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
    main: Path,
    worktree: Worktree,
    params: Params,
    commits: tuple[str, str],
    rule: Rule,
    significance: float,
    check: Check,
) -> dict[str, str]:
    """Let the gate decide, and leave the decision in MLflow, in Prefect and on the branch.

    `commits`: the one that the retraining started from, and the one that holds its results.
    """
    started, commit = commits
    tests = _evaluated(worktree, params.evaluation.test_sets)
    registered = RegisteredModel(tracking_uri(), model_name(params.languages))
    candidate = Candidate(
        version=_registered(registered, worktree),
        tests=tests,
        language=params.languages.target,
        branch=worktree.branch,
        commit=commit,
        flow_run=str(runtime.flow_run.id),
        search=search_of(worktree.folder, params),
        committed=committed(main, started, worktree.folder, tests),
        bleu_tokenizer=params.evaluation.bleu_tokenizer,
        unsigned=demanded(params.promotion, main, worktree.folder, registered.name),
    )
    approver = Approver(candidate, registered.name)
    settlement = settle(main, candidate, registered, rule, significance, approver, check)
    append_line(worktree.folder / TABLE, candidate, settlement)
    worktree.commit(f"Retraining: version {candidate.version.number} is {settlement.event.decision}")
    publish(registered.name, candidate, settlement)
    decided = {"decision": settlement.event.decision, "reason": settlement.event.reason}
    return {"branch": worktree.branch, "commit": commit, "version": candidate.version.number, **decided}


def _evaluated(worktree: Worktree, test_sets: list[str]) -> dict[str, TestTranslations]:
    """The model's translations; if they are not those that dvc.lock names, it translates again, once.

    Raises:
        DataError: they are not even then.
    """
    try:
        return evaluated(worktree.folder, test_sets)
    except DataError as error:
        get_run_logger().warning("%s", error)
    _command([*DVC, "repro", "--force", "--single-item", "evaluate"], worktree.folder)
    return evaluated(worktree.folder, test_sets)


def _registered(registered: RegisteredModel, worktree: Worktree) -> Version:
    """The version of the worktree's model; if it came from DVC's cache and was never registered, average again.

    Raises:
        UserError: it is not registered even then.
    """
    sha256 = sha256_of(worktree.folder / MODEL)
    if version := registered.find(sha256):
        return version
    _command([*DVC, "repro", "--force", "--single-item", "average"], worktree.folder)
    deliver_records()
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
        get_run_logger().info("%s", without_credentials(line))
    if done.returncode != 0:
        raise UserError(f"{' '.join(command[1:4])}: {lines[-1] if lines else f'exit status {done.returncode}'}")
