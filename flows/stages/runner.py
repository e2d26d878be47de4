"""What all stages share: checked params before any work, a recorded run, errors in one line, exit statuses."""

import logging
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from flows.tracking.run import StageRun, recorded
from transformer.errors import ExitCode, UserError
from transformer.params import Params, load_params


def run_stage(name: str, work: Callable[[Params, StageRun], None]) -> None:
    """Run `work` as stage `name`; ends the process with `transformer.errors.ExitCode` when it fails."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    # Both signals unwind the stack as KeyboardInterrupt; training takes them over and saves its state first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        params = load_params(Path("params.yaml"))
        with recorded(name, params) as run:
            work(params, run)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print(f"error: stage {name} was stopped; start again to go on", file=sys.stderr)
        sys.exit(ExitCode.INTERRUPTED)
