"""Retraining on a branch of its own, on a schedule, on demand, or because the sources have changed."""
