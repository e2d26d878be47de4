"""Stage `prepare`: data/raw -> data/corpus, cleaned, filtered, split and decontaminated."""

from pathlib import Path

from flows.checkout.workspace import CORPUS, CORPUS_REPORT, RAW, WORK
from flows.stages.executor import with_executor
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.prepare.prepare import prepare
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Write the three splits and the counts of what was removed; finished chunks wait in work/prepare."""
    raw, corpus, report, work = map(Path, (RAW, CORPUS, CORPUS_REPORT, f"{WORK}/prepare"))
    with_executor(
        "prepare",
        params.compute,
        lambda executor: prepare(params.preparation, raw, corpus, report, work, executor),
    )


if __name__ == "__main__":
    run_stage("prepare", main)
