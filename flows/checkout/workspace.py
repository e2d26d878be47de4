"""Where things are in a checkout and what they are called.

Names are paths relative to its root, the same as in dvc.yaml. Records that wait for MLflow, caches and the state of
trainings always live in the user's main workspace, even while stages run in a copy or a worktree of it.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flows.checkout.own_store import ARTIFACTS, DATABASE, bring_addresses_here
from flows.checkout.tracking_credentials import ADDRESS, checked_address
from transformer.errors import ParamsError
from transformer.files import locked, open_private, private_folder
from transformer.params import LanguageParams

PARAMS = "params.yaml"
DEFINITION, LOCK = "dvc.yaml", "dvc.lock"
REGISTRY = "data/corpora.yaml"
RAW, MANIFEST, CORPUS, TOKENS = "data/raw", "data/manifest.json", "data/corpus", "data/tokens"
PARENT, CHECKPOINTS, MODEL = "models/parent", "models/checkpoints", "models/averaged"
EXPORT = "models/export"
REPORTS = "reports"
CORPUS_REPORT, TOKENS_REPORT, TRAINING_REPORT = "reports/corpus.json", "reports/tokens.json", "reports/training.json"
METRICS, TRANSLATIONS, CURVES = "reports/metrics.json", "reports/translations", "reports/curves"
RECORDS = "reports/lineage"  # of executed stages; not an output of DVC
HYPOTHESES = "reports/lineage/hypotheses"  # the last evaluation's, for clones that have no DVC cache

WORK = "work"
DOWNLOADS, TRACKING = "work/downloads", "work/tracking"

WORKSPACE_VARIABLE = "TRANSFORMER_WORKSPACE"  # set by a retraining, whose stages run in a worktree


PARENT_VARIABLE = "PIPELINE_PARENT"  # set by `lineage reproduce`: a folder as the stage `parent` once left it
MLFLOW_UI_VARIABLE = "TRANSFORMER_MLFLOW_UI"  # set by `make serve`: the address of the MLflow page that it shows


def main_workspace(start: Path | None = None) -> Path:
    """`TRANSFORMER_WORKSPACE`, or the workspace that `start` (default: the working folder) belongs to.

    `dvc exp run --temp` and queued experiments run in a copy below `.dvc/tmp/exps/` that DVC deletes afterwards;
    their records belong to the workspace around it.
    """
    if named := os.environ.get(WORKSPACE_VARIABLE):
        return Path(named).resolve()
    folder = (start or Path.cwd()).resolve()
    for parent in folder.parents:
        if parent.name == "exps" and parent.parent.name == "tmp" and parent.parent.parent.name == ".dvc":
            return parent.parent.parent.parent
    return folder


def check_is_checkout(folder: Path) -> None:
    """Refuse another folder, in which nothing would be found and things would be made.

    Raises:
        ParamsError: `folder` is not the root of a checkout of this pipeline.
    """
    if not (folder / DEFINITION).exists():
        raise ParamsError(f"there is no {DEFINITION} in {folder.resolve()}: run this in the root of a checkout")


def tracking_folder() -> Path:
    """The folder of the records that wait for MLflow, of the sender's lock and of its log."""
    return main_workspace() / TRACKING


@contextmanager
def sender_lock(tracking: Path) -> Iterator[bool]:
    """Keep other processes from sending this folder's records to MLflow; yields False if one already does."""
    if tracking.parent.name == WORK:
        private_folder(tracking.parent)
    private_folder(tracking)
    open_private(tracking / "sender.lock").close()
    with locked(tracking / "sender.lock", wait=False) as free:
        yield free


def hold_pipeline_lock(folder: Path, tell: Callable[[str], object]) -> int:
    """Wait until no other pipeline runs in the workspace; returns the open lock, which is held until it is closed."""
    path = folder / ".dvc" / "tmp" / "pipeline.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        tell("another pipeline runs in this workspace: waiting for its end")
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    return descriptor


def artifact_folder() -> Path:
    """Where the workspace's own MLflow store keeps artifacts."""
    return main_workspace() / ARTIFACTS


def tracking_uri(workspace: Path | None = None) -> str:
    """`MLFLOW_TRACKING_URI`, or the SQLite store of `workspace` (default: the main one), which may have moved.

    Raises:
        ParamsError: the address holds a secret.
    """
    named = checked_address(os.environ.get(ADDRESS, ""))
    return named if named and named != _own_store(workspace) else own_store_uri(workspace)


def own_store_uri(workspace: Path | None = None) -> str:
    """The SQLite store of `workspace` (default: the main one), made to name its artifacts where they are now."""
    bring_addresses_here((workspace or main_workspace()).resolve())
    return _own_store(workspace)


def _own_store(workspace: Path | None) -> str:
    return f"sqlite:///{(workspace or main_workspace()).resolve() / DATABASE}"


def model_name(languages: LanguageParams) -> str:
    """What MLflow calls the experiment and the registered model of a direction."""
    return f"transformer-{languages.source}-{languages.target}"
