"""Speed of training: tokens/s, model FLOPs utilisation, memory, waits for data, beside torch.nn.Transformer.

    python -m benchmarks.training --preset wmt14-en-de-big --synthetic
    python -m benchmarks.training --preset interface-strings --updates 20
    python -m benchmarks.training --preset interface-strings --profile

Each configuration runs in a process of its own, one after the other. With `--profile`, ours alone: where the time of
an update goes, and which share of the machine's rate of matrix products it reaches. Needs torch and the library's own
dependencies: no corpus, no network, neither Prefect nor DVC nor MLflow.
"""

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.newstest import Pieces, random_split
from benchmarks.presets import add_preset, preset_params
from benchmarks.torch_transformer import TorchTransformer
from transformer.errors import DeviceMemoryError, ParamsError, UserError
from transformer.params import Params
from transformer.training.gradients import Weights
from transformer.training.loader import Loader
from transformer.training.objective import Network, compilations
from transformer.training.run import Run
from transformer.training.throughput import peak_flops

BASELINE, PADDED, PACKED = "torch.nn.Transformer", "padded, not compiled", "packed, compiled"
SYNTHETIC_PAIRS = 200_000
WARM_UP = {"cpu": 3, "cuda": 10}
UPDATES = {"cpu": 10, "cuda": 100}


@dataclass(frozen=True)
class Measured:
    """One configuration's figures."""

    name: str
    device: str
    seconds_per_update: float
    tokens_per_second: float
    teraflops: float
    utilization: float | None  # of the device's published peak, where that is known
    memory_gb: float
    data_wait: float  # share of the time
    compiled_again: int  # graphs made after the warm-up


def main() -> None:
    """Measure every configuration that the device has, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_preset(parser)
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--synthetic", action="store_true", help="newstest's lengths, random words (the default)")
    data.add_argument("--tokens", type=Path, help="the tokenize stage's folder, to measure on a corpus")
    parser.add_argument("--updates", type=int, help="updates measured (10 on a CPU, 100 on a GPU)")
    parser.add_argument("--profile", action="store_true", help="where the time of an update of ours goes")
    asked = parser.parse_args()
    params = preset_params(asked.preset)
    print_heading(asked.preset, params)
    if asked.profile:
        from benchmarks.update_profile import print_profile  # here, as it measures by the functions below

        return print_profile(params, asked.tokens, asked.updates)
    baseline = None
    for name in BASELINE, PADDED, PACKED:
        try:
            found = measure_alone(name, params, asked.tokens, asked.updates)
        except (DeviceMemoryError, torch.OutOfMemoryError):
            print(f"{name:22} does not fit into the device's memory", flush=True)
            continue
        except (ParamsError, RuntimeError) as error:  # the other configurations are measured all the same
            print(f"{name:22} failed: {' '.join(str(error).split())[:500]}", flush=True)
            continue
        if found is None:
            print(f"{name:22} not on this device", flush=True)
            continue
        baseline = baseline or (found.tokens_per_second if name == BASELINE else None)
        print_row(found, baseline)


def measure_alone(name: str, params: Params, tokens: Path | None, updates: int | None) -> Measured | None:
    """`measure` in a process of its own, which leaves nothing in the device's memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, name, params, tokens, updates).result()


def measure(name: str, params: Params, tokens: Path | None, updates: int | None) -> Measured | None:
    """Warm up, then time this many updates; None where the device has no such configuration."""
    with warmed(name, params, tokens) as ready:
        return timed(name, *ready, updates or UPDATES.get(ready[0].device.type, 10)) if ready else None


@contextmanager
def warmed(name: str, params: Params, tokens: Path | None) -> Iterator[tuple[Run, Loader] | None]:
    """A run of that configuration that has compiled and warmed up, and its updates; None where there is none."""
    run = configured(name, params, tokens)
    if run is None:
        yield None
        return
    with Loader(run, 0, 0) as loader:
        advance(run, loader, WARM_UP.get(run.device.type, 3))
        yield run, loader


def timed(name: str, run: Run, loader: Loader, updates: int) -> Measured:
    """The figures of the next updates."""
    graphs, waited, begun = compilations(), loader.waited, time.monotonic()
    count, flops = advance(run, loader, updates)
    seconds, waited = time.monotonic() - begun, loader.waited - waited
    peak = peak_flops(run.device, run.precision)
    return Measured(
        name=name,
        device=torch.cuda.get_device_name(run.device) if run.device.type == "cuda" else run.device.type,
        seconds_per_update=seconds / updates,
        tokens_per_second=count / seconds,
        teraflops=flops / seconds / 1e12,
        utilization=flops / seconds / peak if peak else None,
        memory_gb=peak_memory(run.device) / 1e9,
        data_wait=waited / seconds,
        compiled_again=compilations() - graphs,
    )


def as_trained(params: Params, tokens: Path | None) -> Run:
    """A run as this device trains, on the corpus of a tokens folder or on random pairs."""
    if tokens:
        return Run.prepare(params.model, params.training, params.compute, tokens)
    vocabulary = Pieces(params.tokenization.vocabulary_size)
    split = random_split(SYNTHETIC_PAIRS, vocabulary.size)
    return Run.start(params.model, params.training, params.compute, vocabulary, split, split)


def configured(name: str, params: Params, tokens: Path | None) -> Run | None:
    """A run of that configuration; None where the device has none."""
    run = as_trained(params, tokens)
    if name == PACKED:
        return run if run.packed else None
    smoothing = params.training.label_smoothing
    if run.packed:
        run.packed, run.network = False, Network(run.model, smoothing, run.precision, compiled=False)
    if name == BASELINE:
        run.grid = False
        model = TorchTransformer(params.model, run.vocabulary.size, smoothing, run.precision).to(run.device)
        run.model = run.network = model
        run.weights = Weights(model)
        group = run.optimizer.param_groups[0]
        run.optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=group["betas"], fused=group["fused"])
    return run


def advance(run: Run, loader: Loader, updates: int) -> tuple[int, int]:
    """Compute this many updates to their end; returns their target tokens and the operations they need."""
    tokens = flops = 0
    loss = torch.zeros(())
    for update in range(1, updates + 1):
        _, work = loader.next()
        loss = run.update(update, work)
        tokens, flops = tokens + work.tokens, flops + work.flops
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the loss became {float(loss)}")
    return tokens, flops


def peak_memory(device: torch.device) -> int:
    """Bytes of the device's memory that tensors took at most; of the process's memory on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def print_heading(preset: str, params: Params) -> None:
    """What is measured, and the table's columns."""
    training = params.training
    print(f"{preset}: {training.batch_target_tokens} target tokens an update, torch {torch.__version__}")
    print(
        f"{'configuration':22} {'tokens/s':>9} {'ms/update':>9} {'TFLOP/s':>8} {'MFU':>6} {'memory':>8} "
        f"{'data wait':>9} {'recompiled':>10} {'ratio':>6}  device",
        flush=True,
    )


def print_row(found: Measured, baseline: float | None) -> None:
    """One configuration, and how many times as fast as the baseline it is."""
    utilization = "-" if found.utilization is None else f"{found.utilization:.1%}"
    ratio = "-" if baseline is None else f"{found.tokens_per_second / baseline:.2f}"
    print(
        f"{found.name:22} {found.tokens_per_second:9,.0f} {1e3 * found.seconds_per_update:9,.1f} "
        f"{found.teraflops:8.2f} {utilization:>6} {found.memory_gb:5.2f} GB {found.data_wait:9.2%} "
        f"{found.compiled_again:10} {ratio:>6}  {found.device}",
        flush=True,
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
