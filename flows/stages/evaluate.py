"""Stage `evaluate`: models/averaged on the test sets -> reports/, scores, translations and plots."""

from pathlib import Path

from flows.checkout.workspace import CHECKPOINTS, CORPUS, MODEL, REPORTS, TRANSLATIONS
from flows.records.hypotheses import keep_hypotheses
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.evaluation.evaluate import evaluate
from transformer.params import Params


def main(params: Params, run: StageRun) -> None:
    """Translate and score, the averaged model next to the last single checkpoint."""
    figures = evaluate(
        params.languages,
        params.decoding,
        params.evaluation,
        params.compute.device,
        corpus=Path(CORPUS),
        model=Path(MODEL),
        checkpoints=Path(CHECKPOINTS),
        reports=Path(REPORTS),
    )
    run.measure(figures)
    keep_hypotheses(Path(TRANSLATIONS))


if __name__ == "__main__":
    run_stage("evaluate", main)
