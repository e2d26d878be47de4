"""One rank: `python -m transformer.training.worker FOLDER`, started by `transformer.training.launch`.

FOLDER belongs to this machine's launcher. It holds `job.json`; the first rank appends its figures to a file there,
and a rank that ends with an error for the user writes it there, for the launcher and the ranks of the next attempt.
"""

import json
import logging
import os
import signal
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import NoReturn, cast

import torch.distributed as dist
from torch.distributed.elastic.multiprocessing.errors import get_error_handler

from transformer.errors import ExitCode, InterruptedTrainingError, UserError
from transformer.files import write_json
from transformer.model.device import select_device
from transformer.params import ComputeParams, LanguageParams, ModelParams, TrainingParams
from transformer.stopping import handle_stop_signals
from transformer.training.ranks import Ranks, joined
from transformer.training.train import Figures, Paths, train

log = logging.getLogger(__name__)

JOB_FILE = "job.json"
FIGURES_FILE = "figures.jsonl"
MEASURED_FILE = "measured.json"
OUTCOME_FILE = "outcome.json"
KINDS = {kind.exit_code: kind for kind in UserError.__subclasses__() if kind.__module__ == UserError.__module__}


def read_outcome(folder: Path) -> UserError | None:
    """The error for the user that a rank of this machine has written, if any."""
    path = folder / OUTCOME_FILE
    if not path.exists():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    return KINDS.get(content["exit_code"], UserError)(content["message"])


def _leave(folder: Path, error: UserError) -> None:
    write_json(folder / OUTCOME_FILE, {"exit_code": error.exit_code, "message": str(error)})


def work(folder: Path) -> None:
    """Take part in the training until it ends or a rank has ended it.

    Raises:
        UserError: a problem of this rank alone; the others are still waiting for it.
    """
    job = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
    compute = ComputeParams.model_validate(job["compute"])
    sections = (
        LanguageParams.model_validate(job["languages"]),
        ModelParams.model_validate(job["model"]),
        TrainingParams.model_validate(job["training"]),
        compute,
    )
    paths = cast(Paths, {name: Path(path) for name, path in job["paths"].items()})
    with joined(select_device(compute.device), job["leads"]) as ranks:
        if ranks.rank == 0:
            logging.getLogger().setLevel(logging.INFO)
            if (restart := int(os.environ["TORCHELASTIC_RESTART_COUNT"])) and not read_outcome(folder):
                log.info("a rank has died; all ranks start again from the last saved state (restart %d)", restart)
        if outcome := _outcome_of_any(ranks, folder):
            _leave(folder, outcome)
            return
        try:
            measured = train(
                *sections, **paths, on_figures=lambda figures: _append(folder / FIGURES_FILE, figures), ranks=ranks
            )
            if ranks.rank == 0:
                write_json(folder / MEASURED_FILE, measured)
        except InterruptedTrainingError as error:  # all ranks have agreed to it
            _leave(folder, error)


def _outcome_of_any(ranks: Ranks, folder: Path) -> UserError | None:
    """Why a rank of the last attempt ended, on whichever machine."""
    found: list[UserError | None] = [None] * ranks.world
    dist.all_gather_object(found, read_outcome(folder), group=ranks.control)
    return next(filter(None, found), None)


def _append(path: Path, figures: Figures) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(asdict(figures), allow_nan=False) + "\n")


def _die(status: ExitCode) -> NoReturn:
    """End at once: leaving the group properly would wait for ranks that wait for this one."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def main() -> None:
    """Run, and end with `transformer.errors.ExitCode`."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    folder = Path(sys.argv[1])
    errors = get_error_handler()
    errors.initialize()
    try:
        work(folder)
    except UserError as error:
        _leave(folder, error)
        _die(error.exit_code)
    except BaseException as error:
        # When a rank dies, torchrun sends the others SIGTERM; a report that it cuts short would crash torchrun.
        handle_stop_signals(signal.SIG_IGN)
        errors.record_exception(error)
        reason = traceback.format_exception_only(error)[-1].strip().splitlines()[0]
        log.warning("rank %s: %s", os.environ["RANK"], reason)
        _die(ExitCode.FAILURE)


if __name__ == "__main__":
    main()
