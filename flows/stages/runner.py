"""What all stages share: params are checked first, the run is recorded, errors are one line and an exit status."""

import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType

from flows.checkout.preflight import read_params
from flows.checkout.site_cache import VARIABLE, configure
from flows.checkout.workspace import DEFINITION, WORK
from flows.records.dvc_files import GPU_TAG, parse_definition
from flows.records.provenance import FLOW_RUN_VARIABLE
from flows.restore.outputs import check_inputs, locked_stages, restore
from flows.signatures.keys import take_signer
from flows.stages.gpu_lock import gpu_lock
from flows.tracking.run import StageRun, recorded
from transformer.credentials import without_credentials
from transformer.errors import ExitCode, UserError, trouble_of_the_machine
from transformer.files import private_folder
from transformer.params import Params
from transformer.stopping import handle_stop_signals

# Starting again would end in the same way, so the results of the last run are worth more than what this one left.
NOTHING_MADE = (ExitCode.BAD_PARAMS, ExitCode.BAD_DATA, ExitCode.DIVERGED, ExitCode.OUT_OF_MEMORY)


def run_stage(name: str, work: Callable[[Params, StageRun], None]) -> None:
    """Run `work` as stage `name`; ends the process with `transformer.errors.ExitCode` when it fails."""
    with checked_params(name) as params:
        signer = take_signer()  # before the work: a key that can't be read would be noticed after it
        with _kept_to_ourselves(), _device(name, params), recorded(name, params, signer) as run:
            try:
                if _started_by_dvc():
                    check_inputs(Path.cwd(), run.inputs)
                work(params, run)
            except BaseException:
                _ignore_signals()
                raise


@contextmanager
def _kept_to_ourselves() -> Iterator[None]:
    """Shut `work` to other users; name DVC's site cache where a person started `dvc` without `make setup`.

    After the check of params, as a stage that refuses them writes nothing.
    """
    with suppress(OSError):  # a full disk is for the stage to tell
        private_folder(Path(WORK))
        if "DVC_STAGE" in os.environ and VARIABLE not in os.environ and (folder := configure(Path())):
            print(f"DVC's site cache is {folder} from now on, not /var/tmp/dvc, which others can write", flush=True)
    yield


@contextmanager
def checked_params(name: str) -> Iterator[Params]:
    """The checked params.yaml for a process of stage `name`; errors in the body end it with the right exit status."""
    time = "" if FLOW_RUN_VARIABLE in os.environ else "%(asctime)s "  # Prefect's log has the time of each line
    logging.basicConfig(level=logging.INFO, format=f"{time}%(message)s", datefmt="%H:%M:%S")
    # The signals unwind the stack as KeyboardInterrupt; training takes them over and saves its state first.
    handle_stop_signals(_stop)
    try:
        yield read_params()
    except UserError as error:
        _tell(f"error: {error}")
        if _started_by_dvc() and error.exit_code in NOTHING_MADE:
            _put_back(name)
        sys.exit(error.exit_code)
    except Exception as error:
        trouble = trouble_of_the_machine(error)
        told = f"error: {trouble}" if trouble else traceback.format_exc()
        _tell(without_credentials(told))
        sys.exit(ExitCode.FAILURE)
    except KeyboardInterrupt:
        _tell(f"error: stage {name} was stopped; start again to continue")
        sys.exit(ExitCode.INTERRUPTED)


def _tell(text: str) -> None:
    with suppress(OSError):  # who would read it, a terminal or a `tee`, may have ended by the same signal
        print(text, file=sys.stderr, flush=True)


def _started_by_dvc() -> bool:
    return "DVC_STAGE" in os.environ


def _put_back(stage: str) -> None:
    """DVC has deleted the stage's outputs before it started it; dvc.lock still names them, so they come back."""
    try:
        if stage in locked_stages(Path.cwd()):
            print(*restore(Path.cwd(), [stage]).lines, sep="\n", file=sys.stderr)
    except (UserError, OSError) as error:
        print(f"warning: the outputs of the last run are not back ({error}): make undo", file=sys.stderr)


def _stop(_number: int, _frame: FrameType | None) -> None:
    _ignore_signals()
    raise KeyboardInterrupt


def _ignore_signals() -> None:
    """Let the end be recorded without interruption: a process group gets SIGTERM, then another when dvc dies."""
    handle_stop_signals(signal.SIG_IGN)


def _device(stage: str, params: Params) -> AbstractContextManager[None]:
    """A stage tagged `gpu` gets its device to itself; Prefect's limits don't know of a `dvc repro` typed by hand."""
    if GPU_TAG not in parse_definition(Path(DEFINITION).read_bytes(), DEFINITION)[stage].tags:
        return nullcontext()
    from transformer.model.device import select_device  # here: torch takes seconds to import

    return gpu_lock(str(select_device(params.compute.device)))
