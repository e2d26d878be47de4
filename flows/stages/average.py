"""Stage `average`: models/checkpoints -> models/averaged, the folder that translates, and a registered model."""

from pathlib import Path

from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.averaging.average import average
from transformer.params import Params


def main(params: Params, run: StageRun) -> None:
    """Average the chosen checkpoints and have the result registered."""
    model = Path("models/averaged")
    average(
        params.averaging,
        params.decoding,
        checkpoints=Path("models/checkpoints"),
        tokens=Path("data/tokens"),
        model=model,
    )
    run.register_model(model, f"transformer-{params.languages.source}-{params.languages.target}")


if __name__ == "__main__":
    run_stage("average", main)
