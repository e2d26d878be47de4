"""Adam's moments with which the training of a parent ended, from the saved state that may still be here."""

import json
import shutil
from pathlib import Path

from safetensors import SafetensorError, safe_open

from transformer.errors import DataError
from transformer.model.folder import LIST_FILE
from transformer.training.resume import STATE_FILE


def bring_optimizer(name: str, model: Path, work: Path, target: Path) -> None:
    """Copy the state of the training that ended with the last checkpoint of the model folder.

    Raises:
        DataError: no state knows that checkpoint.
    """
    last = _last_checkpoint(model)
    for path in sorted((work / "training").glob(f"*/{STATE_FILE}")):
        if last and last in _checkpoints(path):
            shutil.copyfile(path, target)
            return
    raise DataError(
        f"training.start_optimizer = 'taken': no saved state below {work.name}/training has the last checkpoint of "
        f"{name}: states stay only where the training ran, and for a while; set it to fresh"
    )


def _last_checkpoint(model: Path) -> str | None:
    """SHA-256 of the last checkpoint that was averaged."""
    try:
        averaged = json.loads((model / LIST_FILE).read_text(encoding="utf-8"))["averaged"]
        return str(max(averaged, key=lambda one: one["update"])["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _checkpoints(state: Path) -> set[str]:
    """SHA-256 of each checkpoint that a finished training's state lists; none of a damaged or unfinished one."""
    try:
        with safe_open(state, framework="pt") as stored:
            progress = json.loads((stored.metadata() or {})["progress"])
        ended = progress["ending"]
        listed = [*progress["checkpoints"], ended["checkpoint"]] if ended else []
        return {one["sha256"] for one in listed}
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return set()
