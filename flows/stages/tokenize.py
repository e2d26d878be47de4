"""Stage `tokenize`: data/corpus -> data/tokens, one byte-pair vocabulary for both languages."""

from pathlib import Path

from flows.checkout.workspace import CORPUS, PARENT, TOKENS, TOKENS_REPORT, WORK
from flows.stages.executor import with_executor
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.tokenize.tokenize import tokenize
from transformer.params import Params
from transformer.parent_folder import given_vocabulary


def main(params: Params, _run: StageRun) -> None:
    """Learn or take the vocabulary and encode all splits; finished chunks wait in work/tokenize."""
    corpus, tokens, report, work = map(Path, (CORPUS, TOKENS, TOKENS_REPORT, f"{WORK}/tokenize"))
    given = given_vocabulary(Path(PARENT))
    with_executor(
        "tokenize",
        params.compute,
        lambda executor: tokenize(params.tokenization, corpus, tokens, report, work, executor, given),
    )


if __name__ == "__main__":
    run_stage("tokenize", main)
