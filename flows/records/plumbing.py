"""The code that a stage runs although dvc.yaml does not name it: an edit of it calls for no new run."""

from collections.abc import Iterable

# What every stage runs and no output depends on, with the reason.
PLUMBING = {
    "flows/checkout": "where things are",
    "flows/markdown.py": "how pages show texts",
    "flows/parent": "where a parent is found; what it was resolved to is in the output",
    "flows/processes": "how a stage ends with what started it",
    "flows/records": "what is written down about a stage that has run",
    "flows/signatures": "who answers for what is written down",
    "flows/stages/executor.py": "where chunks are computed; the same ones everywhere",
    "flows/stages/gpu_lock.py": "who may use the GPU now",
    "flows/stages/runner.py": "exit statuses and errors",
    "flows/tracking": "what MLflow is told",
    "transformer/chunks.py": "chunks in order, wherever they are computed",
    "transformer/credentials.py": "what is left out of words",
    "transformer/errors.py": "the words of errors",
    "transformer/files.py": "hashing, and writing whole files",
    "transformer/known_keys.py": "what is said of unknown params",
    "transformer/params.py": "the checks of params; stages depend on their values",
    "transformer/parent_folder.py": "where the parts of a parent are",
    "transformer/progress.py": "what a person sees meanwhile",
    "transformer/stopping.py": "how a stage is asked to stop",
    "transformer/section.py": "the words of wrong params",
    "transformer/working_folder.py": "where unfinished work is found again",
    "transformer/yaml12.py": "how params.yaml and data/corpora.yaml are read",
}
# What every stage runs to check params.yaml before it works; the outputs of those that name it depend on it.
CHECKS = (
    "flows/restore",
    "transformer/bleu.py",
    "transformer/data/compression.py",
    "transformer/data/download/archive.py",
    "transformer/data/download/chosen.py",
    "transformer/data/download/corpora.py",
    "transformer/data/download/local.py",
    "transformer/data/download/recognition.py",
    "transformer/data/parts.py",
    "transformer/evaluation/comet_score.py",
    "transformer/languages.py",
    "transformer/relations.py",
)

# What runs only where params ask for it.
AT_TIMES = ("flows/stages/dask_executor.py",)
# Of the stage `parent`, which declares nothing but itself on purpose (dvc.yaml), where there is one to look for.
OF_A_PARENT = ("flows/lineage", "transformer/model", "transformer/tokens/vocabulary.py", "transformer/training")


def is_known(path: str, declared: Iterable[str]) -> bool:
    """Whether a module belongs to what a stage declares, or to what is known to be needed besides."""
    folders = (*declared, *PLUMBING, *CHECKS, *AT_TIMES)
    return path.endswith("/__init__.py") or any(path == one or path.startswith(f"{one}/") for one in folders)
