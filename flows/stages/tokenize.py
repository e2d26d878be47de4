"""Stage `tokenize`: data/corpus -> data/tokens, one byte-pair vocabulary for both languages."""

from pathlib import Path

from flows.checkout.workspace import CORPUS, PARENT, TOKENS, TOKENS_REPORT, WORK
from flows.stages.executor import with_executor
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.tokenize.mixture import Mixture
from transformer.data.tokenize.tokenize import tokenize
from transformer.params import Params
from transformer.parent_folder import given_vocabulary, parent_split


def main(params: Params, _run: StageRun) -> None:
    """Learn or take the vocabulary and encode all splits; finished chunks wait in work/tokenize."""
    corpus, tokens, report, work = map(Path, (CORPUS, TOKENS, TOKENS_REPORT, f"{WORK}/tokenize"))
    parent = Path(PARENT)
    mixture = Mixture(parent_split(parent, "train"), params.preparation.mix, params.preparation.sampling_temperature)
    given, old_valid = given_vocabulary(parent), parent_split(parent, "valid")
    with_executor(
        "tokenize",
        params.compute,
        lambda executor: tokenize(
            params.tokenization, corpus, tokens, report, work, executor,
            given=given, mixture=mixture, old_valid=old_valid,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    run_stage("tokenize", main)
