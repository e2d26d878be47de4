"""Linear maps over any number of rows, in few sizes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """y = x W^T + b, with Xavier-uniform weights and zero biases.

    On the CPU the rows are padded to one of a few counts: oneDNN compiles a kernel for each new count of rows, which
    costs a quarter of the first epoch, and keeps half a megabyte of it for good.
    """

    def reset_parameters(self) -> None:
        """Initialise as `torch.nn.MultiheadAttention` does."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in) to (…, out)."""
        return linear(x, self.weight, self.bias)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x W^T + b for x of shape (…, in)."""
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.linear(x, weight, bias)
    rows = x.reshape(-1, x.size(-1))
    count = len(rows)
    padded = F.pad(rows, (0, 0, 0, rounded_up(count) - count))
    return F.linear(padded, weight, bias)[:count].view(*x.shape[:-1], -1)


def rounded_up(count: int) -> int:
    """The next of eight sizes an octave, so that at most an eighth is padding: … 1024, 1152, … 2048, 2304, …"""
    step = max(8, 1 << max(0, (count - 1).bit_length() - 4))
    return -(-count // step) * step
