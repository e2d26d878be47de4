"""Stage 5: one self-contained model folder from several checkpoints (paper, section 6.1)."""
