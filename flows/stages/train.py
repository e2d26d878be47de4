"""Stage `train`: data/tokens -> models/checkpoints; after an interruption of any kind it resumes exactly.

With `compute.devices` or `compute.nodes` above 1 it starts itself under torchrun, one process for each device. On
each machine but the first run `python -m flows.stages.train join`; see docs/scale.md.
"""

import logging
import os
import sys
from pathlib import Path
from typing import Any

from flows.checkout.workspace import CHECKPOINTS, CURVES, PARENT, TOKENS, TRAINING_REPORT, WORK, main_workspace
from flows.processes import die_with_parent
from flows.stages.runner import checked_params, run_stage
from flows.tracking.run import StageRun
from transformer.params import Params
from transformer.relations import remarks
from transformer.training.launch import launch
from transformer.training.train import Figures, OnFigures, Paths, train

log = logging.getLogger(__name__)

# The resumable state is kept in work/training, since DVC deletes outputs before a stage runs; for a queued experiment
# in the main workspace, since DVC deletes the experiment's own copy when it fails.
PATHS: Paths = {
    "tokens": Path(TOKENS),
    "work": main_workspace() / WORK / "training",
    "checkpoints": Path(CHECKPOINTS),
    "report": Path(TRAINING_REPORT),
    "curves": Path(CURVES),
    "parent": Path(PARENT),
}


def main(params: Params, run: StageRun) -> None:
    """Train, here or on all devices; only the first rank's figures are recorded."""

    def record(figures: Figures) -> None:
        run.log(figures.update, figures.metrics)

    for remark in remarks(params):
        log.warning("warning: %s", remark)
    if params.compute.devices * params.compute.nodes == 1:
        sections = (params.languages, params.model, params.training, params.compute)
        run.measure(train(*sections, **PATHS, on_figures=record))
    else:
        run.measure(_launch(params, record, leads=True))


def join() -> None:
    """Take part in a training that another machine leads; that machine records it and writes the outputs."""
    with checked_params("train") as params:
        _launch(params, lambda _: None, leads=False)


def _launch(params: Params, on_figures: OnFigures, leads: bool) -> dict[str, Any]:
    bound = [sys.executable, "-S", "-c", die_with_parent.PROGRAM, str(os.getpid()), sys.executable]
    sections = (params.languages, params.model, params.training, params.compute)
    return launch(*sections, PATHS, on_figures, leads=leads, command=bound)


if __name__ == "__main__":
    if sys.argv[1:] == ["join"]:
        join()
    else:
        run_stage("train", main)
