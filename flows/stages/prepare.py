"""Stage `prepare`: data/raw -> data/corpus, cleaned, filtered, split and decontaminated."""

from pathlib import Path

from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.prepare.corpus import prepare
from transformer.params import Params


def main(params: Params, _run: StageRun) -> None:
    """Write the three splits and the counts of what was removed."""
    prepare(params.preparation, raw=Path("data/raw"), corpus=Path("data/corpus"), report=Path("reports/corpus.json"))


if __name__ == "__main__":
    run_stage("prepare", main)
