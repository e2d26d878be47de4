"""Stage `train`: data/tokens -> models/checkpoints; starting again after any end resumes exactly.

With more than one of `compute.devices` or `compute.nodes` it starts itself under torchrun, a process a device. On
each machine but the first, `python -m flows.stages.train join` takes part; docs/scale.md tells how.
"""

import os
import sys
from pathlib import Path

from flows.checkout.workspace import CHECKPOINTS, CURVES, TOKENS, TRAINING_REPORT, WORK, main_workspace
from flows.processes import die_with_parent
from flows.stages.runner import checked_params, run_stage
from flows.tracking.run import StageRun
from transformer.params import Params
from transformer.training.launch import launch
from transformer.training.train import Figures, OnFigures, Paths, train

# The resumable state lives in work/training, as DVC deletes outputs before a stage runs; that of a queued experiment
# in the workspace that it belongs to, as DVC deletes the experiment's copy when it fails.
PATHS: Paths = {
    "tokens": Path(TOKENS),
    "work": main_workspace() / WORK / "training",
    "checkpoints": Path(CHECKPOINTS),
    "report": Path(TRAINING_REPORT),
    "curves": Path(CURVES),
}


def main(params: Params, run: StageRun) -> None:
    """Train, here or on all devices; only the first rank's figures are recorded."""

    def log(figures: Figures) -> None:
        run.log(figures.update, figures.metrics)

    if params.compute.devices * params.compute.nodes == 1:
        train(params.languages, params.model, params.training, params.compute, **PATHS, on_figures=log)
    else:
        _launch(params, log, leads=True)


def join() -> None:
    """Take part in the training that another machine leads; that one records and writes."""
    with checked_params("train") as params:
        _launch(params, lambda _: None, leads=False)


def _launch(params: Params, on_figures: OnFigures, leads: bool) -> None:
    bound = [sys.executable, "-S", die_with_parent.__file__, str(os.getpid()), sys.executable]
    sections = (params.languages, params.model, params.training, params.compute)
    launch(*sections, PATHS, on_figures, leads=leads, command=bound)


if __name__ == "__main__":
    if sys.argv[1:] == ["join"]:
        join()
    else:
        run_stage("train", main)
