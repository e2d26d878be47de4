"""One short module for each stage of dvc.yaml, run as `python -m flows.stages.<stage>` from the checkout's root."""

import os
import sys
from types import FrameType

from flows.processes.die_with_parent import die_with_parent
from flows.records.imports import FILE_VARIABLE, watch_imports
from transformer.stopping import handle_stop_signals

# Here, before a stage's own imports, which take seconds. `dvc` does not pass signals on to its stages: if it is
# killed, the training would go on without it. Without DVC the parent is a shell, which people may close on purpose.
if "DVC_STAGE" in os.environ:
    die_with_parent()

# This process is a stage, or one of its workers.
if FILE_VARIABLE in os.environ or any(word.startswith(f"{__name__}.") for word in sys.orig_argv):
    watch_imports()


def _stopped_while_importing(_number: int, _frame: FrameType | None) -> None:
    print("error: stopped before the stage had begun; start again", file=sys.stderr, flush=True)
    os._exit(75)  # as ExitCode.INTERRUPTED; there is nothing to clean up yet


if sys.argv[0] == "-m":  # the stage's module is still to be imported; `flows.stages.runner` takes over
    if sys.argv[1:] not in ([], ["join"], ["repro"]):  # nor does anybody who asks for --help want the stage to start
        print("error: stages take no arguments; their settings are in params.yaml", file=sys.stderr)
        sys.exit(2)
    handle_stop_signals(_stopped_while_importing)
