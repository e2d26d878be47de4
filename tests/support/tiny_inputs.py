"""A tiny corpus that a tiny model can learn, params to match, and a checkout to try them in."""

import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

CHECKOUT = Path(__file__).parents[2]
# Words that translate one by one; in the target the verb goes to the end.
SUBJECTS = {"the cat": "die Katze", "the dog": "der Hund", "a child": "ein Kind", "my friend": "mein Freund"}
VERBS = {"sees": "sieht", "finds": "findet", "wants": "will", "likes": "mag", "hears": "hört"}
ADJECTIVES = {"small": "kleine", "red": "rote", "old": "alte", "new": "neue", "quiet": "leise", "long": "lange"}
NOUNS = {"lamp": "Lampe", "street": "Straße", "door": "Tür", "clock": "Uhr", "bag": "Tasche", "bridge": "Brücke"}
PLACES = {"here": "hier", "outside": "draußen", "at home": "zu Hause", "in the city": "in der Stadt", "": ""}


def synthetic_pairs(count: int, seed: int = 1) -> list[tuple[str, str]]:
    """Distinct sentences with their translations under the rule above."""
    random_ = random.Random(seed)
    pairs: dict[str, str] = {}
    while len(pairs) < count:
        words = [random_.choice(list(table.items())) for table in (SUBJECTS, VERBS, ADJECTIVES, NOUNS, PLACES)]
        (subject, s), (verb, v), (adjective, a), (noun, n), (place, p) = words
        pairs[f"{subject} {verb} the {adjective} {noun} {place}".strip() + "."] = (
            " ".join(filter(None, [s, "die", a, n, p, v])) + "."
        )
    return list(pairs.items())


TINY_PARAMS: dict[str, Any] = {
    "languages": {"source": "en", "target": "de"},
    "download": {"corpora": ["tiny"], "retries": 0, "timeout_seconds": 1.0},
    "preparation": {
        "filters": {
            "empty": True,
            "identical": True,
            "length": 50,
            "length_in_characters": 200,
            "length_ratio": 3.0,
            "placeholder_mismatch": True,
            "number_mismatch": "any",
            "wrong_script": True,
            "duplicates": "source",
            "held_out": 1.0,
            "held_out_target": False,
        },
        "valid_share": 0.1,
        "test_share": 0.1,
        "mix": 0.0,
        "sampling_temperature": 1.0,
        "batch_pairs": 1000,
        "max_line_bytes": 1 << 20,
    },
    "tokenization": {
        "vocabulary_size": 400,
        "character_coverage": 1.0,
        "training_pairs": 10000,
        "model": None,
        "new_pieces": 0,
    },
    "model": {
        "d_model": 32,
        "d_ff": 64,
        "heads": 2,
        "key_size": None,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "dropout": 0.0,
        "positions": "sinusoidal",
        "norm": "post",
        "max_positions": 64,
    },
    "training": {
        "seed": 1,
        "updates": 40,
        "start_from": None,
        "start_optimizer": "fresh",
        "batch_target_tokens": 300,
        "length_groups": 2,
        "micro_batch_tokens": 400,
        "label_smoothing": 0.1,
        "adam_beta1": 0.9,
        "adam_beta2": 0.98,
        "adam_epsilon": 1e-9,
        "schedule": "inverse_sqrt",
        "warmup_updates": 20,
        "rewarm_after": None,
        "learning_rate_scale": 1.0,
        "precision": "fp32",
        "compile": None,
        "log_every": 5,
        "validate_every": 20,
        "validation_bleu_sentences": 8,
        "early_stopping_patience": None,
        "forgetting_limit": None,
        "checkpoint_every_updates": 10,
        "checkpoint_every_minutes": None,
        "keep_last": 3,
    },
    "averaging": {"rule": "last", "count": 2, "at_least": 1, "minutes_apart": 1.0, "min_updates_apart": 5},
    "decoding": {
        "beam": 2,
        "alpha": 0.6,
        "max_extra_length": 10,
        "batch_tokens": 500,
        "precision": "fp32",
        "device": "auto",
    },
    "evaluation": {
        "test_sets": ["tiny-test"],
        "bleu_tokenizer": None,
        "comet_checkpoint": None,
        "comet_python": None,
        "bootstrap_samples": 100,
        "length_buckets": [5, 10],
        "attention_sentences": 1,
    },
    "export": {"formats": [], "quantization": "float32"},
    "compute": {
        "device": "cpu",
        "devices": 1,
        "nodes": 1,
        "threads": 1,
        "executor": "local",
        "scheduler": None,
    },
    "promotion": {"require_signatures": False},
}


def write_tiny_inputs(workspace: Path) -> None:
    """params.yaml, the registry and a local corpus of 400 training pairs."""
    pairs = synthetic_pairs(460)
    splits = {"train": pairs[:400], "valid": pairs[400:430], "test": pairs[430:]}
    folder = workspace / "tiny"
    folder.mkdir()
    for split, rows in splits.items():
        for side, language in enumerate(("en", "de")):
            (folder / f"{split}.{language}").write_text("".join(f"{row[side]}\n" for row in rows), encoding="utf-8")
    local = {split: {language: f"tiny/{split}.{language}" for language in ("en", "de")} for split in splits}
    (workspace / "data" / "corpora.yaml").write_text(yaml.safe_dump({"tiny": {"local": local}}))
    (workspace / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS, sort_keys=False))


def copy_checkout(workspace: Path) -> Path:
    """The files of this checkout as a source tarball would hold them: what git knows or would take, no more."""
    if (CHECKOUT / ".git").exists():
        listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listing, cwd=CHECKOUT, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, names):
            if (CHECKOUT / name).is_file():
                (workspace / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, workspace / name)
    else:
        made = shutil.ignore_patterns(".venv", "work", "mlruns", "mlflow.db*", "mlartifacts", "__pycache__", "cache")
        shutil.copytree(CHECKOUT, workspace, ignore=made, dirs_exist_ok=True)
    return workspace


def once_a_test_run(factory: pytest.TempPathFactory, name: str, fill: Callable[[Path], object]) -> Path:
    """A folder that the first of this test run's processes to ask for it has filled; the others wait for that."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / name, shared / f"{name}-done"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            fill(folder)
            done.touch()
    return folder
