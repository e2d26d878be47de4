"""The learning rate (paper, section 5.3, equation 3)."""

import math


def learning_rate(update: int, d_model: int, warmup_updates: int, scale: float = 1.0) -> float:
    """scale x d_model^-0.5 x min(update^-0.5, update x warmup^-1.5), updates counted from 1."""
    return scale / math.sqrt(d_model) * min(update**-0.5, update * warmup_updates**-1.5)
