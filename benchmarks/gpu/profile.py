"""Where the time of an update goes, by torch's profiler."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, _ExperimentalConfig, profile

from benchmarks.gpu.kernels import Event, Kernel, breakdown, costliest, gaps, kernels_of, mean_bytes
from benchmarks.gpu.parts import Row
from benchmarks.gpu.setting import REHEARSAL
from benchmarks.training import advance
from transformer.training.loader import Loader
from transformer.training.run import Run

UPDATES = 3 if REHEARSAL else 20
UPDATES_WITH_SHAPES = 2  # recording them slows the host down, so that times come from a profile without
COSTLIEST = 25
LONGEST_GAPS = 10
ADAM_BYTES = 28  # a float32 weight, its gradient and two moments read, all but the gradient written


def rows(size: str, found: dict[str, dict[str, Any]]) -> list[Row]:
    """The table's line of one size, where its profile is `found`."""
    if size not in found:
        return []
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in found[size]["breakdown"].items())
    return [Row(f"{size}: an update of {found[size]['ms_an_update']:.1f} ms, profiled", shares)]


def profiled(run: Run, loader: Loader) -> dict[str, Any]:
    """Where the next updates' time goes; the run has warmed up."""
    kernels = kernels_of(traced(run, loader, UPDATES))
    sized = kernels_of(traced(run, loader, UPDATES_WITH_SHAPES, shapes=True))
    return figures(kernels, sized, sum(parameter.numel() for parameter in run.model.parameters()))


def figures(kernels: list[Kernel], sized: list[Kernel], weights: int) -> dict[str, Any]:
    """Of UPDATES updates, and of UPDATES_WITH_SHAPES whose kernels know their bytes; `weights` is their number."""
    idle, moved = gaps(kernels), mean_bytes(sized)
    span = max(kernel.end for kernel in kernels) - kernels[0].begin
    by_class: dict[str, float] = {}
    for kernel in sized:
        by_class[kernel.kind] = by_class.get(kernel.kind, 0.0) + (kernel.bytes or 0) / UPDATES_WITH_SHAPES
    by_class["optimizer"] = float(ADAM_BYTES * weights)  # its arguments are lists, whose shapes are not recorded
    unknown = sum(kernel.bytes is None and kernel.kind != "optimizer" for kernel in sized) / max(1, len(sized))
    return {
        "updates": UPDATES,
        "ms_an_update": span / UPDATES / 1e3,
        "kernels_an_update": len(kernels) / UPDATES,
        "breakdown": breakdown(kernels),
        "costliest": costliest(kernels, UPDATES, COSTLIEST, moved),
        "gaps": {
            "an_update": len(idle) / UPDATES,
            "ms_an_update": sum(gap for gap, _, _ in idle) / UPDATES / 1e3,
            "ms_an_update_of_gaps_above_20_us": sum(gap for gap, _, _ in idle if gap > 20) / UPDATES / 1e3,
            "longest": [{"us": gap, "after": a[:80], "before": b[:80]} for gap, a, b in idle[:LONGEST_GAPS]],
        },
        "gigabytes_an_update": {kind: total / 1e9 for kind, total in by_class.items()},
        "bytes_are": "of each launching operator's tensors, each once and whole; Adam's by its formula",
        "share_of_kernels_without_bytes": unknown,
    }


def traced(run: Run, loader: Loader, updates: int, *, shapes: bool = False) -> list[Event]:
    """The events of the next updates, as torch's profiler writes them; `shapes` of operators' arguments too."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or the profiler tells on stderr when it starts and stops
    on_gpu = run.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *[ProfilerActivity.CUDA] * on_gpu]
    every_thread = _ExperimentalConfig(profile_all_threads=not on_gpu)  # micro-batches are computed side by side
    with profile(activities=activities, record_shapes=shapes, experimental_config=every_thread) as profiler:
        advance(run, loader, updates)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        events: list[Event] = json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"]
        return events
