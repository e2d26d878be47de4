"""Part 3: the speed of training, base and big, in the configurations of `benchmarks.training`."""

import os
import sys
import time
import traceback
from dataclasses import asdict

import torch

from benchmarks.gpu.parts import DEADLINE, Result, Row
from benchmarks.gpu.setting import DEVICE, REHEARSAL, SIZES, preset
from benchmarks.training import (
    BASELINE,
    FLEX,
    GRAPHED,
    PACKED,
    PADDED,
    Measured,
    measure_alone,
    print_heading,
    print_row,
)
from transformer.errors import DeviceMemoryError, UserError
from transformer.model.device import select_device

UPDATES = 2 if REHEARSAL else 60
# Ours, what it is compared with, and what might replace it: too slow for a CPU, or without a backward pass there.
CONFIGURATIONS = [PACKED, BASELINE, PADDED] + ([] if REHEARSAL else [GRAPHED, FLEX])
AIMS = {"base": 0.35, "big": 0.50}  # of the peak, one H100
PAPERS_UPDATES = 100_000  # paper, section 5.2: of the base model


def measure(result: Result) -> None:
    """What matters most first: ours at both sizes, what it is compared with, then what could replace it.

    A configuration for which there is no time is not begun.

    Raises:
        UserError: a configuration failed; the others have been measured. Or there is no GPU.
    """
    select_device(DEVICE)
    found: dict[str, dict[str, Measured]] = {size: {} for size in SIZES}
    absent: dict[str, str] = {}
    longest = 0.0
    for name in CONFIGURATIONS:
        for size, preset_name in SIZES.items():
            begun = time.monotonic()
            if begun + longest > float(os.environ[DEADLINE]):
                absent[f"{size}, {name}"] = "not begun: too little time"
            else:
                one = measured(name, preset_name)
                if isinstance(one, Measured):
                    found[size][name] = one
                else:
                    absent[f"{size}, {name}"] = one
                longest = max(longest, time.monotonic() - begun)
            result.record(
                rows=[row for each in SIZES for row in rows(each, found[each])],
                measured={each: [asdict(one) for one in by_name.values()] for each, by_name in found.items()},
                absent=absent,
            )
    if failed := [f"{which} {why}" for which, why in absent.items() if why.startswith("failed")]:
        raise UserError("; ".join(failed))


def measured(name: str, preset_name: str) -> Measured | str:
    """A configuration's figures, or why there are none."""
    params = preset(preset_name)
    print_heading(preset_name, params)
    try:
        found = measure_alone(name, params, None, UPDATES)
    except (DeviceMemoryError, torch.OutOfMemoryError):
        return "does not fit into the device's memory"
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        return f"failed: {traceback.format_exception_only(error)[-1].strip()[:300]}"
    if found is None:
        return "not on this device"
    print_row(found, None)
    return found


def rows(size: str, found: dict[str, Measured]) -> list[Row]:
    """The table's lines of one size, as far as its configurations have been measured."""
    ours, theirs = found.get(PACKED), found.get(BASELINE)
    if ours is None:
        return []
    used, aim = ours.utilization, AIMS[size]
    figure = "-" if used is None else f"{used:.1%}"
    lines = [
        Row(f"{size}: model FLOPs utilisation", figure, f">= {aim:.0%}", None if used is None else used >= aim),
        Row(
            f"{size}: target tokens/s, ms an update",
            f"{ours.tokens_per_second:,.0f}, {1e3 * ours.seconds_per_update:.1f}",
        ),
        Row(f"{size}: memory", f"{ours.memory_gb:.1f} GB"),
    ]
    if size == "base":
        hours = ours.seconds_per_update * PAPERS_UPDATES / 3600
        lines.append(Row("base: 100k updates", f"{hours:.2f} h", "< 1 h", hours < 1))
    if theirs:
        ratio = ours.tokens_per_second / theirs.tokens_per_second
        lines.append(Row(f"{size}: against `torch.nn.Transformer`", f"{ratio:.2f} x", ">= 1.5 x", ratio >= 1.5))
    for other, name in (("as CUDA graphs", GRAPHED), ("with flex attention", FLEX)):
        if name in found:
            ratio = found[name].tokens_per_second / ours.tokens_per_second
            lines.append(Row(f"{size}: {other}, against ours without", f"{ratio:.2f} x"))
    lines.append(Row(f"{size}: wait for data", f"{ours.data_wait:.2%}", "< 2 %", ours.data_wait < 0.02))
    again = ours.compiled_again
    lines.append(Row(f"{size}: graphs compiled after the warm-up", str(again), "0", again == 0))
    return lines
