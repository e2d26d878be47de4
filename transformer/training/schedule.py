"""The learning rate (paper, section 5.3, equation 3)."""


def learning_rate(update: int, d_model: int, warmup_updates: int, scale: float = 1.0) -> float:
    """scale x d_model^-0.5 x min(update^-0.5, update x warmup^-1.5), updates counted from 1."""
    rate: float = scale * float(d_model) ** -0.5 * min(float(update) ** -0.5, update * float(warmup_updates) ** -1.5)
    return rate
