"""Stage `export`: models/averaged -> models/export, a folder for each format of export.formats, with a list."""

from pathlib import Path

from flows.checkout.workspace import EXPORT, MODEL
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.export.export import export_all
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Export the averaged model."""
    export_all(Path(MODEL), params.export, Path(EXPORT))


if __name__ == "__main__":
    run_stage("export", main)
