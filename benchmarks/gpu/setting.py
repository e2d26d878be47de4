"""Where the parts run: a GPU with the presets as they are, or this CPU with tiny ones for a rehearsal."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.presets import preset_params
from transformer.errors import DataError
from transformer.params import Params, params_from

CHECKOUT = Path(__file__).parents[2]
BUNDLE = CHECKOUT / ".gpu"
DEVICE = os.environ.get("DEVICE", "cuda")
REHEARSAL = DEVICE == "cpu"

DEFAULT_PRESET, CAPTIONS_PRESET = "interface-strings", "multi30k"
SIZES = {"base": "wmt14-en-de-base", "big": "wmt14-en-de-big"}

# A rehearsal's sizes; everything else is as in the preset.
TINY: dict[str, dict[str, Any]] = {
    "tokenization": {"vocabulary_size": 500},
    "model": {"d_model": 32, "d_ff": 64, "heads": 2, "encoder_layers": 1, "decoder_layers": 1},
    "training": {
        "batch_target_tokens": 400,
        "length_groups": 2,
        "micro_batch_tokens": 2000,
        "updates": 20,
        "compile": True,  # packed, as on a GPU
        "warmup_updates": 10,
        "validate_every": 10,
        "validation_bleu_sentences": 4,
        "checkpoint_every_updates": 4,
        "log_every": 5,
    },
    "averaging": {"count": 5, "min_updates_apart": 4},
}


def preset(name: str, changes: Mapping[str, Mapping[str, Any]] | None = None) -> Params:
    """A preset on DEVICE with some values changed, in a rehearsal with TINY's too."""
    content = preset_params(name).model_dump()
    for some in (changes or {}, TINY if REHEARSAL else {}, {"compute": {"device": DEVICE}}):
        for section, values in some.items():
            content[section].update(values)
    return params_from(content, f"presets/{name}.yaml")


def bundled(preset_name: str, what: str) -> Path:
    """A file or folder of a preset in the bundle.

    Raises:
        DataError: it is not there.
    """
    path = BUNDLE / preset_name / what
    if not path.exists():
        raise DataError(f"{path.relative_to(CHECKOUT)} is missing: run `make gpu-bundle` where there is a network")
    return path


@dataclass(frozen=True)
class TestText:
    """A test set in text; `hypotheses` are the bundled model's on the CPU that the bundle was made on, or empty."""

    __test__ = False  # pytest takes classes called Test… for its own

    sources: list[str]
    references: list[str]
    hypotheses: list[str]

    @classmethod
    def read(cls, path: Path, count: int | None = None) -> "TestText":
        """The first `count` lines of a bundled test set, by default all."""
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]
        return cls(*([row.get(key, "") for row in rows] for key in ("source", "reference", "hypothesis")))
