"""Stage `evaluate`: models/averaged on the test sets -> reports/, scores, translations and plots."""

from pathlib import Path

from flows.checkout.workspace import CHECKPOINTS, CORPUS, MODEL, REPORTS, TRAINING_REPORT
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.evaluation.evaluate import evaluate
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Translate and score, the averaged model next to the last single checkpoint."""
    evaluate(
        params.languages,
        params.decoding,
        params.evaluation,
        params.compute.device,
        corpus=Path(CORPUS),
        model=Path(MODEL),
        checkpoints=Path(CHECKPOINTS),
        training_report=Path(TRAINING_REPORT),
        reports=Path(REPORTS),
    )


if __name__ == "__main__":
    run_stage("evaluate", main)
