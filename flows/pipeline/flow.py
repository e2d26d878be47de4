"""The pipeline as a Prefect flow: DVC's graph, one task per stage.

DVC alone decides what is up to date: a task is `dvc repro --single-item STAGE` in a process group of its own.
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.states import Cancelled, Completed
from prefect.tasks import Task

from flows.checkout.preflight import check_checkout
from flows.checkout.site_cache import use_private_site_cache
from flows.checkout.workspace import PARAMS, hold_pipeline_lock
from flows.pipeline.gpu_slot import gpu_slot
from flows.pipeline.graph import Stage, read_graph
from flows.pipeline.progress_artifact import ProgressArtifact
from flows.pipeline.report import publish_report
from flows.pipeline.server_access import check_server_access
from flows.pipeline.stage_process import Outcome, StageError, run_stage
from flows.pipeline.wanted import NoLongerWanted, while_wanted
from flows.processes import groups
from flows.processes.die_with_parent import die_with_parent
from flows.records.provenance import FLOW_RUN_VARIABLE, TASK_RUN_VARIABLE
from flows.restore.outputs import check_outputs, discard_damaged
from transformer.errors import ExitCode, UserError
from transformer.stopping import handle_stop_signals

_WORDS = {
    Outcome.COMPLETED: "the stage ran",
    Outcome.SKIPPED: "nothing it depends on has changed",
    Outcome.RESTORED: "its outputs were in DVC's run cache",
}


@flow(name="pipeline")
def pipeline(workspace: str = ".", targets: list[str] | None = None) -> dict[str, str]:
    """Bring the stages of a DVC workspace up to date, independent ones at the same time.

    Args:
        workspace: the checkout with dvc.yaml.
        targets: stages to bring up to date, with all they need; default: all.

    Returns:
        Stage name -> `Completed`, `Skipped` or `Restored`.

    Raises:
        ParamsError: params.yaml, data/corpora.yaml, dvc.yaml or a target is wrong.
        DataError: an output is damaged.
        StageError: a stage failed; those that don't depend on it have run.
    """
    folder = Path(workspace).resolve()
    run = _flow_run_id()
    if "PREFECT__FLOW_RUN_ID" in os.environ:  # a worker's child: the worker's death ends the run, and so its stages
        die_with_parent()
    hide_stack_traces()
    stages = read_graph(folder, targets)
    with while_wanted():  # also while it waits for its turn
        lock = hold_pipeline_lock(folder, get_run_logger().warning)
        try:
            return _bring_up_to_date(folder, stages, run)
        finally:
            os.close(lock)


def _bring_up_to_date(folder: Path, stages: list[Stage], run: str) -> dict[str, str]:
    if (folder / PARAMS).exists():  # else the stages are not ours
        check_checkout(folder)
    for line in discard_damaged(folder):
        get_run_logger().warning("%s", line)
    outcomes = _run(run, stages, folder)
    publish_report(folder, outcomes)
    return outcomes


def _run(run: str, stages: list[Stage], folder: Path) -> dict[str, str]:
    """Every stage, each once those it waits for are up to date; all of them are stopped when one thing goes wrong."""
    try:
        futures: dict[str, PrefectFuture[Any]] = {}
        for stage in stages:
            upstreams = [futures[name] for name in stage.upstreams]
            futures[stage.name] = _task(stage).submit(stage, folder, wait_for=upstreams)
        for future in futures.values():
            future.wait()
        outcomes = {name: str(future.state.name) for name, future in futures.items()}
        for name, future in futures.items():
            if not (future.state.is_completed() or future.state.is_pending()):  # pending: what it needs has failed
                raise _failure(name, future)
        check_outputs(folder, list(futures))
    except BaseException:
        groups.stop(run)
        raise
    return outcomes


@task(cache_policy=NO_CACHE, persist_result=False)
def dvc_stage(stage: Stage, workspace: Path) -> State[Any]:
    """Run one stage; the task's final state is named after what DVC did."""
    run, logger = _flow_run_id(), get_run_logger()
    identity = {FLOW_RUN_VARIABLE: run, TASK_RUN_VARIABLE: _task_run_id()}
    try:
        with gpu_slot(run, stage.settings.tags), ProgressArtifact(stage.name) as progress:

            def show(line: str) -> None:
                logger.log(_level(line), "%s", line)
                progress.read(line)

            outcome = run_stage(run, stage.name, workspace, identity, show)
    except groups.RunStopped:
        return Cancelled(message="stopped with the flow run; what it had saved is kept")
    return Completed(name=outcome.value, message=_WORDS[outcome], data=outcome.value)


def _task(stage: Stage) -> Task[Any, Any]:
    settings = stage.settings
    return dvc_stage.with_options(
        name=stage.name,
        task_run_name=stage.name,
        tags=settings.tags,
        retries=settings.retries,
        retry_delay_seconds=settings.retry_delay_seconds,
        timeout_seconds=settings.timeout_seconds,
        retry_condition_fn=_retry_helps,
    )


def _retry_helps(_task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:
    """Whether another attempt can succeed: never once the flow is being stopped, else by the stage's exit code."""
    if groups.is_stopped(str(task_run.flow_run_id)):
        return False
    error = state.data
    return error.retry_helps if isinstance(error, StageError) else True


def _failure(stage: str, future: PrefectFuture[Any]) -> StageError:
    error = future.result(raise_on_failure=False)
    if isinstance(error, StageError):
        return error
    return StageError(f"stage {stage}: {future.state.message}", ExitCode.FAILURE, retry_helps=True)


def _flow_run_id() -> str:
    context = FlowRunContext.get()
    assert context is not None
    assert context.flow_run is not None
    return str(context.flow_run.id)


def _task_run_id() -> str:
    context = TaskRunContext.get()
    assert context is not None
    return str(context.task_run.id)


def _level(line: str) -> int:
    if line.startswith(("error:", "ERROR:")):
        return logging.ERROR
    return logging.WARNING if line.startswith(("warning:", "WARNING:")) else logging.INFO


class _OneLineErrors(logging.Filter):
    """Drops the stack traces of our own errors: their message says everything, and a trace would only bury it."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and isinstance(record.exc_info[1], UserError | TimeoutError):
            record.exc_info = None
        return True


_one_line_errors = _OneLineErrors()


def hide_stack_traces() -> None:
    """Have Prefect log our own errors in one line."""
    for name in ("prefect.task_runs", "prefect.flow_runs"):
        logging.getLogger(name).addFilter(_one_line_errors)


def _start_temporary_server() -> None:
    """Where no server is configured, start Prefect's temporary one, out of reach of a terminal's Ctrl-C and end.

    After Ctrl-C the run's end is still to be reported to it. A child inherits the blocked signal.
    """
    if get_current_settings().api.url is None:
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGHUP])
        try:
            get_client(sync_client=True)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGHUP])


def main() -> None:
    """Run the pipeline in the working folder; a failed stage's exit status becomes the process's."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the stages of dvc.yaml.")
    parser.add_argument("stages", nargs="*", metavar="STAGE", help="what to bring up to date (default: all stages)")
    targets = parser.parse_args().stages
    handle_stop_signals(signal.default_int_handler)  # all stop it in the same way, also in the background
    try:
        use_private_site_cache(Path())  # before a server is started for nothing
        check_server_access()
        _start_temporary_server()
        outcomes = pipeline(targets=targets or None)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("error: the pipeline was stopped; start again to continue", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    except NoLongerWanted as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
    for stage, outcome in outcomes.items():
        print(f"{stage}: {outcome.lower()}")


if __name__ == "__main__":
    main()
