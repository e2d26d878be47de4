"""The paper's values beside the presets: `python -m transformer.paper` writes docs/paper.md."""
