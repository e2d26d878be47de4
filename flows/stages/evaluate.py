"""Stage `evaluate`: models/averaged on the test sets -> reports/, scores, translations and plots."""

from pathlib import Path

from flows.checkout.workspace import CHECKPOINTS, CORPUS, HYPOTHESES, MODEL, REPORTS, TRANSLATIONS
from flows.records.hypotheses import keep_hypotheses
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.evaluation.evaluate import evaluate
from transformer.params import Params


def main(params: Params, run: StageRun) -> None:
    """Translate and score, the averaged model next to the last single checkpoint."""
    measured = evaluate(
        params.languages,
        params.decoding,
        params.evaluation,
        params.decoding_device,
        corpus=Path(CORPUS),
        model=Path(MODEL),
        checkpoints=Path(CHECKPOINTS),
        reports=Path(REPORTS),
    )
    run.measure(measured)
    keep_hypotheses(Path(TRANSLATIONS), Path(HYPOTHESES))


if __name__ == "__main__":
    run_stage("evaluate", main)
