"""Part 1: what machine this is, and what its GPU does at best today: a large product and a large copy."""

import os
import platform
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu.parts import Result, Row
from benchmarks.gpu.setting import DEVICE, REHEARSAL
from transformer.model.device import select_device
from transformer.training.throughput import named_peak

WIDTH = 256 if REHEARSAL else 8192
COPIED_BYTES = 1 << 20 if REHEARSAL else 4 << 30
REPEATS = 10


def measure(result: Result) -> None:
    """Names and versions first, then the two roofs, each the median of its repeats."""
    device = select_device(DEVICE)
    result.record(**names(device))
    product = matrix_rate(device, torch.bfloat16, WIDTH)
    result.record(product_teraflops=product / 1e12, clocks_after_product=clocks())
    source = torch.randint(0, 100, (COPIED_BYTES,), device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copy = 2 * COPIED_BYTES / seconds(lambda: target.copy_(source), device)
    result.record(copy_terabytes=copy / 1e12)
    content = result.content["figures"]
    peak = named_peak(content["card"])
    share = f", {product / peak:.0%} of the data sheet's" if peak else ""
    result.record(
        rows=[
            Row("machine", f"{content['card']}, driver {content['driver']}, torch {content['torch']}"),
            Row(f"bf16 product of {WIDTH}³", f"{product / 1e12:.1f} TFLOP/s{share}"),
            Row("copy on the device, bytes read and written", f"{copy / 1e12:.2f} TB/s"),
        ]
    )


def names(device: torch.device) -> dict[str, Any]:
    """Card, driver, versions, cores, memory."""
    found: dict[str, Any] = {
        "card": "CPU",
        "driver": "none",
        "torch": torch.__version__,
        "python": f"Python {platform.python_version()}",
        "cores": os.cpu_count(),
    }
    if device.type == "cuda":
        import pynvml

        pynvml.nvmlInit()
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "card": torch.cuda.get_device_name(device),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "nccl": ".".join(map(str, torch.cuda.nccl.version())),
            "capability": list(torch.cuda.get_device_capability(device)),
            "memory_gb": properties.total_memory / 1e9,
            "multiprocessors": properties.multi_processor_count,
            "clocks_idle": clocks(),
        }
    return found


def clocks() -> dict[str, Any] | None:
    """Clocks in MHz, degrees Celsius and watts as the driver tells them now; None without a GPU."""
    if DEVICE != "cuda":
        return None
    import pynvml

    pynvml.nvmlInit()
    card = pynvml.nvmlDeviceGetHandleByIndex(0)
    return {
        "processors_mhz": pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_SM),
        "memory_mhz": pynvml.nvmlDeviceGetClockInfo(card, pynvml.NVML_CLOCK_MEM),
        "celsius": pynvml.nvmlDeviceGetTemperature(card, pynvml.NVML_TEMPERATURE_GPU),
        "watts": pynvml.nvmlDeviceGetPowerUsage(card) / 1000,
    }


def matrix_rate(device: torch.device, precision: torch.dtype, width: int) -> float:
    """FLOP/s of the product of two square matrices; on a CPU by all threads."""
    a, b = (torch.randn(width, width, device=device, dtype=precision) for _ in range(2))
    return 2 * width**3 / seconds(lambda: a @ b, device)


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """The median time of `work` after three warm-ups, by the device's own clock where it has one."""

    for _ in range(3):
        work()
    took = []
    for _ in range(REPEATS):
        if device.type == "cuda":
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            took.append(begin.elapsed_time(end) / 1000)
        else:
            begun = time.perf_counter()
            work()
            took.append(time.perf_counter() - begun)
    return sorted(took)[REPEATS // 2]
