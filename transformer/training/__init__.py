"""Stage 4: the training regime of section 5 of the paper."""
