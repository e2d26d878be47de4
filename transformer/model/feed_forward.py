"""Position-wise feed-forward networks (paper, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.linear import Linear


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inner = Linear(d_model, d_ff)
        self.outer = Linear(d_ff, d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, d_model) to (…, d_model)."""
        output: Tensor = self.outer(F.relu(self.inner(x)))
        return output
