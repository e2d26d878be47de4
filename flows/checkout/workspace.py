"""Where records wait and where they go: the user's workspace, also for experiments that run in a copy of it."""

import os
from pathlib import Path

WORKSPACE_VARIABLE = "TRANSFORMER_WORKSPACE"  # set by a retraining, whose stages run in a worktree


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


def tracking_folder() -> Path:
    """The folder of the spools, of the sender's lock and of its log."""
    return main_workspace() / "work" / "tracking"


def artifact_folder() -> Path:
    """Where the embedded store keeps artifacts."""
    return main_workspace() / "mlartifacts"


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, or the workspace's own SQLite store."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{main_workspace() / 'mlflow.db'}"
