"""Beam search and the translator that `evaluate` and `transformer translate` share (paper, section 6.1)."""
