"""The machine and the software that a stage runs on."""

import os
import platform
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path

import pynvml

from flows.records.installed import files_digest, installed_files
from flows.records.record import Machine


def this_machine() -> Machine:
    """Whatever may change a result although code, params and data are the same."""
    driver, cuda = _driver()
    return Machine(
        python=platform.python_version(),
        os=platform.platform(),
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        threads=threads(),
        gpus=gpu_names(),
        driver=driver,
        cuda=cuda,
        packages=_packages(),
        torch_files=torch_files(),
    )


def threads() -> int | None:
    """The number of CPU threads that torch uses; None in a process that has not imported it."""
    torch = sys.modules.get("torch")
    return torch.get_num_threads() if torch else None


def torch_files() -> str | None:
    """`files_digest` of torch, whose build, unlike all else, no lock pins."""
    return files_digest(installed_files([distribution("torch")]))


def gpu_names() -> list[str]:
    """The names of the NVIDIA GPUs of this machine."""
    return [str(pynvml.nvmlDeviceGetName(handle)) for handle in gpu_handles()]


def gpu_handles() -> list[object]:
    """NVML's handles of the NVIDIA GPUs of this machine."""
    try:
        pynvml.nvmlInit()
        return [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError:
        return []


def _cpu() -> str:
    """The processor's model on Linux, elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def _driver() -> tuple[str | None, str | None]:
    """The NVIDIA driver's version and the newest CUDA version that it supports."""
    try:
        pynvml.nvmlInit()
        version = pynvml.nvmlSystemGetCudaDriverVersion_v2()
        return str(pynvml.nvmlSystemGetDriverVersion()), f"{version // 1000}.{version % 1000 // 10}"
    except pynvml.NVMLError:
        return None, None


def _packages() -> dict[str, str]:
    """Every installed distribution with its version; the first on the path is the one that is imported."""
    found: dict[str, str] = {}
    for one in distributions():
        metadata = one.metadata  # parsed again on every access
        found.setdefault(metadata["Name"].lower().replace("_", "-"), metadata["Version"])
    return dict(sorted(found.items()))
