"""What a training goes on from, in one folder (models/parent), and what the stages find there.

parent.json            what was asked for, what it was resolved to, the hashes; nulls where nothing was asked for
model/                 the model folder of the parent, byte for byte
lineage/               the records of its own chain
optimizer.safetensors  the state that its training ended with, where training.start_optimizer is `taken`
corpus/                its train and valid.parquet, where preparation.mix or training.forgetting_limit want them
spm.model              where tokenization.model names one: that vocabulary
"""

from pathlib import Path

DESCRIPTION_FILE, OPTIMIZER_FILE, VOCABULARY_FILE = "parent.json", "optimizer.safetensors", "spm.model"
MODEL_FOLDER, RECORDS_FOLDER, CORPUS_FOLDER = "model", "lineage", "corpus"


def given_vocabulary(parent: Path) -> Path | None:
    """The vocabulary to encode with: one that is given alone, or the parent's; None: it is to be learned."""
    found = (parent / VOCABULARY_FILE, parent / MODEL_FOLDER / VOCABULARY_FILE)
    return next((path for path in found if path.is_file()), None)


def parent_split(parent: Path, split: str) -> Path | None:
    """A split of the corpus that the parent was trained on, where it was brought."""
    path = parent / CORPUS_FOLDER / f"{split}.parquet"
    return path if path.is_file() else None
