"""The learning rate of each update (paper, section 5.3)."""

import math

from transformer.params import TrainingParams


def learning_rate(update: int, d_model: int, training: TrainingParams) -> float:
    """scale x d_model^-0.5 x min(update^-0.5, update x warmup^-1.5), updates counted from 1.

    With the schedule `linear`, the rate falls from the same peak in a straight line, to zero after the last update.
    `rewarm_after` ends the schedule at that update, and the next one begins it anew.
    """
    warmup, last, rewarm = training.warmup_updates, training.updates, training.rewarm_after or 0
    if update > rewarm:
        update, last = update - rewarm, last - rewarm
    else:
        last = rewarm
    rate: float = training.learning_rate_scale * float(d_model) ** -0.5 * update * float(warmup) ** -1.5
    if update <= warmup:
        return rate
    peak = rate * warmup / update
    if training.schedule == "linear":
        return peak * (last + 1 - update) / (last + 1 - warmup)
    return peak * math.sqrt(warmup / update)


def same_rates(updates: int, d_model: int, one: TrainingParams, other: TrainingParams) -> bool:
    """Whether the first `updates` have the same rates with both params."""
    return all(
        learning_rate(update, d_model, one) == learning_rate(update, d_model, other)
        for update in range(1, updates + 1)
    )
