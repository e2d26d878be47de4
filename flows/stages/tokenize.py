"""Stage `tokenize`: data/corpus -> data/tokens, one byte-pair vocabulary for both languages."""

from pathlib import Path

from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.tokenize.encode import tokenize
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Learn the vocabulary on the training split and encode all splits."""
    tokenize(
        params.tokenization,
        corpus=Path("data/corpus"),
        tokens=Path("data/tokens"),
        report=Path("reports/tokens.json"),
    )


if __name__ == "__main__":
    run_stage("tokenize", main)
