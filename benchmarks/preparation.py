"""How fast and in how much memory `prepare`, `tokenize` and the start of training pass through generated text.

    python -m benchmarks.preparation --pairs 1000000 --folder /tmp/measured

Text as large as asked for is generated once (benchmarks/generated_text.py) and the stages run on it with the
settings of a preset, each in a process of its own. Memory is the sum of what that process and those below it have
resident, shared pages counted in each.
A stage that is interrupted goes on where it stopped when it is measured again: its row then says too much.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from benchmarks.generated_text import write_wmt_like
from benchmarks.presets import add_preset, preset_params
from transformer.chunks import LocalExecutor
from transformer.data.prepare.prepare import prepare
from transformer.data.tokenize.tokenize import tokenize
from transformer.params import Params
from transformer.tokens.store import TokenSplit

SECONDS_BETWEEN_SAMPLES = 0.2
STAGES = ("generate", "prepare", "tokenize", "start")


@contextmanager
def peak_memory() -> Iterator[Callable[[], float]]:
    """Yield a function that tells the largest sum so far of the MiB resident, of this process and those below it."""
    peak, done = 0, threading.Event()
    process = psutil.Process()

    def sample() -> None:
        nonlocal peak
        while True:
            total = 0
            for member in [process, *process.children(recursive=True)]:
                try:
                    total += member.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            peak = max(peak, total)
            if done.wait(SECONDS_BETWEEN_SAMPLES):
                return

    sampler = threading.Thread(target=sample, daemon=True)
    sampler.start()
    try:
        yield lambda: peak / 2**20
    finally:
        done.set()
        sampler.join()


def start_training(params: Params, tokens: Path) -> None:
    """What training does before its first batch: map the ids, drop what is too long, plan an epoch."""
    from transformer.training.batching import plan_epoch, usable_sentences  # here: torch takes memory

    split = TokenSplit.open(tokens, "train")
    plan_epoch(split, usable_sentences(split, params.model.max_positions), params.training, 0)


def measure(stage: str, params: Params, folder: Path, pairs: int, workers: int | None) -> None:
    """Run one stage and print its row."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    raw, corpus, tokens, work = (folder / name for name in ("raw", "corpus", "tokens", "work"))
    reports = folder / "corpus.json", folder / "tokens.json"
    began = time.monotonic()
    with LocalExecutor(workers) as executor, peak_memory() as peak:
        if stage == "generate":
            write_wmt_like(raw, pairs, executor)
        elif stage == "prepare":
            prepare(params.preparation, raw, corpus, reports[0], work / "prepare", executor)
        elif stage == "tokenize":
            tokenize(params.tokenization, corpus, tokens, reports[1], work, executor)
        else:
            start_training(params, tokens)
        seconds = time.monotonic() - began
    load = os.getloadavg()[0]
    print(
        f"| {pairs:,} | {stage} | {seconds:.1f} | {pairs / seconds:,.0f} | {peak():,.0f} | {load:.1f} |", flush=True
    )


def main() -> None:
    """Measure the stages asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, required=True, help="generated text and results; reused when there")
    add_preset(parser, "wmt14-en-de-base")
    parser.add_argument("--workers", type=int, help="processes; default: one a core")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args()
    params = preset_params(options.preset)
    print("| pairs | stage | s | pairs/s | peak MiB | load |\n|---|---|---|---|---|---|", flush=True)
    for stage in options.stages:
        if stage != "generate" or not (options.folder / "raw" / "parts.json").exists():
            arguments = (stage, params, options.folder, options.pairs, options.workers)
            process = multiprocessing.get_context("spawn").Process(target=measure, args=arguments)
            process.start()
            process.join()
            if process.exitcode:
                sys.exit(process.exitcode)


if __name__ == "__main__":
    main()
