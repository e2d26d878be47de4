"""Part 4: where the time of an update goes, base and big, by torch's profiler; then operators one by one."""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import operators
from benchmarks.gpu.kernels import Kernel, breakdown, costliest, gaps, kernels_of, mean_bytes
from benchmarks.gpu.parts import Result, Row
from benchmarks.gpu.setting import REHEARSAL, SIZES, preset
from benchmarks.training import PACKED, PADDED, advance, configured
from transformer.training.loader import Loader
from transformer.training.run import Run

WARM_UP = 2 if REHEARSAL else 5
UPDATES = 3 if REHEARSAL else 20
UPDATES_WITH_SHAPES = 2  # recording them slows the host down, so that times come from a profile without
COSTLIEST = 25
LONGEST_GAPS = 10
ADAM_BYTES = 28  # a float32 weight, its gradient and two moments read, all but the gradient written


def measure(result: Result) -> None:
    """Profile each size; what is known of one is written before the next begins."""
    rows: list[Row] = []
    for size, name in SIZES.items():
        found = profiled(name)
        shares = ", ".join(f"{kind} {share:.0%}" for kind, share in found["breakdown"].items())
        rows.append(Row(f"{size}: an update of {found['ms_an_update']:.1f} ms, profiled", shares))
        result.record(rows=rows, **{size: found})
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    result.record(operators=operators.measure(preset(SIZES["base"])))


def profiled(preset_name: str) -> dict[str, Any]:
    """The figures of one size, of its packed and compiled configuration where the device has one."""
    params = preset(preset_name)
    name = PACKED
    run = configured(name, params, None)
    if run is None:
        name = PADDED
        run = configured(name, params, None)
    assert run is not None
    with Loader(run, 0, 0) as loader:
        advance(run, loader, WARM_UP)
        begun = time.monotonic()
        advance(run, loader, UPDATES)
        plain = (time.monotonic() - begun) / UPDATES
        kernels = _traced(run, loader, UPDATES, shapes=False)
        sized = _traced(run, loader, UPDATES_WITH_SHAPES, shapes=True)
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    return {"configuration": name, "ms_an_update_without_profiler": 1e3 * plain, **figures(kernels, sized, weights)}


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


def _traced(run: Run, loader: Loader, updates: int, *, shapes: bool) -> list[Kernel]:
    activities = [ProfilerActivity.CPU]
    if run.device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, record_shapes=shapes) as profiler:
        advance(run, loader, updates)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(path))
        return kernels_of(json.loads(path.read_text(encoding="utf-8", errors="replace"))["traceEvents"])
