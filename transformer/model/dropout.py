"""Dropout (paper, section 5.4)."""

import threading

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = 1 << 16  # a probability is kept to 16 bits

_random = threading.local()  # micro-batches that are computed side by side draw from generators of their own


def seed_dropout(seed: int, device: torch.device) -> None:
    """Let all that this thread drops out on `device` from now on follow from `seed`."""
    if device.type == "cpu":
        _random.generator = torch.Generator().manual_seed(seed)
        torch.default_generator.manual_seed(seed)  # from which compiled code draws
    else:
        torch.manual_seed(seed)


class Dropout(nn.Module):
    """Zero each number with probability p and scale the others by 1 / (1 - p), in training only.

    On the CPU torch draws one Bernoulli number after another, which takes a tenth of an update; here four 16-bit
    numbers come from each 64-bit draw.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape; `seed_dropout` decides what is dropped, else torch's default generator."""
        if not self.training or self.p == 0:
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return F.dropout(x, self.p)
        generator = getattr(_random, "generator", None)
        words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(1 << 63), None, generator=generator)
        draws = words.view(torch.int16)[: x.numel()].view(x.shape)
        kept = torch.ge(draws, round(self.p * LEVELS) - LEVELS // 2, out=torch.empty(x.shape, dtype=x.dtype))
        return x * kept.mul_(1 / (1 - self.p))
