"""Stage `average`: models/checkpoints -> models/averaged, the folder that translates, and a registered model."""

from pathlib import Path

from flows.checkout.workspace import CHECKPOINTS, MODEL, TOKENS, model_name
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.averaging.average import average
from transformer.params import Params


def main(params: Params, run: StageRun) -> None:
    """Average the chosen checkpoints and have the result registered."""
    model = Path(MODEL)
    average(
        params.averaging,
        params.decoding,
        checkpoints=Path(CHECKPOINTS),
        tokens=Path(TOKENS),
        model=model,
    )
    run.register_model(model, model_name(params.languages))


if __name__ == "__main__":
    run_stage("average", main)
