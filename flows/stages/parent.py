"""Stage `parent`: the model that training.start_from names -> models/parent, or a note that there is none.

A name that moves, as NAME@champion, is looked up when the stage runs: after its params have changed, or when it is
asked to, by `dvc repro --force parent`. models/parent/parent.json holds what it stood for then.
"""

from pathlib import Path

from flows.checkout.workspace import PARENT
from flows.parent.bring import bring
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Bring the parent with what the params want of it."""
    bring(params, Path(PARENT))


if __name__ == "__main__":
    run_stage("parent", main)
