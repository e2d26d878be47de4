"""Stage `train`: data/tokens -> models/checkpoints; starting again after any end resumes exactly."""

from pathlib import Path

from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.params import Params
from transformer.training.train import train


def main(params: Params, run: StageRun) -> None:
    """Train; the resumable state lives in work/training, as DVC deletes outputs before a stage runs."""
    train(
        params,
        tokens=Path("data/tokens"),
        work=Path("work/training"),
        checkpoints=Path("models/checkpoints"),
        report=Path("reports/training.json"),
        curves=Path("reports/curves"),
        on_record=lambda record: run.log(record.update, record.metrics),
    )


if __name__ == "__main__":
    run_stage("train", main)
