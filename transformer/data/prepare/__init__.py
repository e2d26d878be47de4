"""Stage 2: clean, filtered, split and decontaminated sentence pairs."""
