"""Where and in which precision the network runs."""

from contextlib import AbstractContextManager

import torch

from transformer.errors import ParamsError


def select_device(name: str) -> torch.device:
    """The device of that name; `auto` prefers cuda, then mps, then cpu.

    Raises:
        ParamsError: this machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available.get(name, False):
        here = ", ".join(kind for kind, there in available.items() if there)
        raise ParamsError(f"device {name!r} is not available here; use auto or one of: {here}")
    return torch.device(name)


def select_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 or float32; `auto` is bfloat16 where the hardware multiplies in it."""
    if name == "auto":
        return torch.bfloat16 if _multiplies_bfloat16(device) else torch.float32
    return {"bf16": torch.bfloat16, "fp32": torch.float32}[name]


def select_search_precision(name: str, device: torch.device) -> torch.dtype:
    """bfloat16 or float32 of translating; `auto` is bfloat16 on a GPU that multiplies in it, float32 on a CPU.

    In bfloat16 a translation may change with the sentences beside it in a batch, and with the CPU's model: two
    hypotheses that nearly tie are rounded one way or the other. Float32's roundings are too small for that.
    """
    if name == "auto" and device.type == "cpu":
        return torch.float32
    return select_precision(name, device)


def precision_name(precision: torch.dtype) -> str:
    """The name in params.yaml of a precision."""
    return {torch.bfloat16: "bf16", torch.float32: "fp32"}[precision]


def autocast(device: torch.device, precision: torch.dtype) -> AbstractContextManager[None]:
    """Matrix products in `precision`, weights and sums in float32."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=precision == torch.bfloat16
    )
    return context


def _multiplies_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))
    return False
