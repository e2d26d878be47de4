"""Position-wise feed-forward networks (paper, section 3.3)."""

import torch.nn.functional as F
from torch import Tensor, nn


class FeedForward(nn.Module):
    """FFN(x) = max(0, x W1 + b1) W2 + b2."""

    def __init__(self, d_model: int, d_ff: int) -> None:
        super().__init__()
        self.inner = nn.Linear(d_model, d_ff)
        self.outer = nn.Linear(d_ff, d_model)
        for linear in (self.inner, self.outer):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, d_model) to (…, d_model)."""
        hidden: Tensor = F.relu(self.inner(x))
        output: Tensor = self.outer(hidden)
        return output
