"""Stage `download`: the corpora of the registry -> data/raw, every byte verified."""

from pathlib import Path

from flows.checkout.workspace import DOWNLOADS, MANIFEST, RAW, REGISTRY
from flows.stages.runner import run_stage
from flows.tracking.run import StageRun
from transformer.data.download.download import download
from transformer.params import Params


def main(params: Params, run: StageRun) -> None:
    """Fetch the sources; transfers in progress and verified sources stay in work/downloads."""
    times = download(
        params.download,
        params.languages,
        corpora=Path(REGISTRY),
        raw=Path(RAW),
        manifest=Path(MANIFEST),
        cache=Path(DOWNLOADS),
    )
    run.measure({"downloads": times})


if __name__ == "__main__":
    run_stage("download", main)
