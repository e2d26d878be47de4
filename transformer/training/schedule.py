"""The learning rate (paper, section 5.3, equation 3)."""

import math

from transformer.training.params import TrainingParams


def learning_rate(update: int, d_model: int, training: TrainingParams) -> float:
    """scale x d_model^-0.5 x min(update^-0.5, update x warmup^-1.5), updates counted from 1.

    With the schedule `linear`, the rate falls from the same peak in a straight line, to zero after the last update.
    """
    warmup, last = training.warmup_updates, training.updates
    rate: float = training.learning_rate_scale * float(d_model) ** -0.5 * update * float(warmup) ** -1.5
    if update <= warmup:
        return rate
    peak = rate * warmup / update
    if training.schedule == "linear":
        return peak * (last + 1 - update) / (last + 1 - warmup)
    return peak * math.sqrt(warmup / update)
