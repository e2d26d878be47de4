"""Positional encodings (paper, section 3.5)."""

import torch
from torch import Tensor, nn


def sinusoids(length: int, d_model: int) -> Tensor:
    """The paper's table, float32 of shape (length, d_model).

    PE(pos, 2i) = sin(pos / 10000^(2i / d_model)), PE(pos, 2i + 1) = cos of the same angle.
    """
    position = torch.arange(length, dtype=torch.float64)[:, None]
    frequency = 10000.0 ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = position * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).reshape(length, d_model).float()


class Positions(nn.Module):
    """Adds a vector to each position: a constant sinusoid, or a learned row (Table 3, row E)."""

    table: Tensor

    def __init__(self, kind: str, length: int, d_model: int) -> None:
        super().__init__()
        if kind == "learned":
            self.table = nn.Parameter(torch.empty(length, d_model))
            nn.init.normal_(self.table, std=d_model**-0.5)
        else:
            self.register_buffer("table", sinusoids(length, d_model), persistent=False)

    def forward(self, x: Tensor, positions: int | Tensor = 0) -> Tensor:
        """Add to x (batch, length, d_model) the given positions (length,), or those from a first one on."""
        if isinstance(positions, int):
            return x + self.table[positions : positions + x.size(1)]
        return x + self.table[positions]
