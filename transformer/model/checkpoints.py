"""Checkpoints: weights of one update in safetensors, and an index of those that are kept."""

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from transformer.errors import DataError
from transformer.files import atomic_path, sha256_of, write_json

INDEX_FILE = "index.json"


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint or model file, by parameter name.

    Raises:
        DataError: the file is missing or not safetensors.
    """
    try:
        return load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`, or `dvc pull` to fetch it") from None
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from None


@dataclass(frozen=True)
class Checkpoint:
    """One kept checkpoint.

    `scheduled` is False where it was written only because its validation loss was the best so far. `valid_loss` is
    None where that update was not validated; `minutes`, since the start of training, is None where
    checkpoints are written by updates alone, so that the files do not depend on the clock.
    """

    update: int
    scheduled: bool = True
    valid_loss: float | None = None
    minutes: float | None = None

    @property
    def file(self) -> str:
        """Its name in the checkpoints folder."""
        return f"update-{self.update:08d}.safetensors"


def write_checkpoint(folder: Path, checkpoint: Checkpoint, weights: dict[str, Tensor], vocabulary: bytes) -> None:
    """Write the weights of `checkpoint` into `folder`, atomically; the header names the vocabulary's SHA-256.

    Only one key: safetensors writes several in random order, and equal checkpoints must be equal files.
    """
    header = {"vocabulary": hashlib.sha256(vocabulary).hexdigest()}
    with atomic_path(folder / checkpoint.file) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in weights.items()}, temporary, metadata=header)


def vocabulary_hash(path: Path) -> str | None:
    """SHA-256 of the vocabulary that the checkpoint at `path` was trained with, from its header.

    Raises:
        DataError: it is not a safetensors file.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            return (stored.metadata() or {}).get("vocabulary")
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from None


def kept(written: list[Checkpoint], keep_last: int) -> list[Checkpoint]:
    """The last `keep_last` scheduled checkpoints and the best one, in order of update."""
    best, last = best_of(written), [one for one in written if one.scheduled][-keep_last:]
    return [one for one in written if one is best or one in last]


def best_of(written: list[Checkpoint]) -> Checkpoint | None:
    """The checkpoint of lowest validation loss, the earliest of several."""
    validated = [one for one in written if one.valid_loss is not None]
    return min(validated, key=lambda one: (one.valid_loss, one.update), default=None)


def delete_others(folder: Path, keep: list[Checkpoint]) -> None:
    """Delete the checkpoints in `folder` that are not in `keep`, a crashed run's latest ones included."""
    names = {checkpoint.file for checkpoint in keep}
    for path in folder.glob("update-*.safetensors"):
        if path.name not in names:
            path.unlink()


def write_index(folder: Path, checkpoints: list[Checkpoint]) -> None:
    """List the checkpoints of `folder` with their hashes; holds no times."""
    best = best_of(checkpoints)
    entries = [{"file": one.file, **asdict(one), "sha256": sha256_of(folder / one.file)} for one in checkpoints]
    names = {"best": best.file if best else None, "last": checkpoints[-1].file}
    write_json(folder / INDEX_FILE, {"checkpoints": entries, **names})


def read_index(folder: Path) -> list[Checkpoint]:
    """The checkpoints listed in `folder`, in order of update, their hashes checked.

    Raises:
        DataError: the index is missing, or a file is missing or not the one that was listed.
    """
    path = folder / INDEX_FILE
    if not path.exists():
        raise DataError(f"{path} is missing: run the train stage first (dvc repro train)")
    checkpoints = []
    for entry in json.loads(path.read_text(encoding="utf-8"))["checkpoints"]:
        file = folder / entry["file"]
        if not file.exists():
            raise DataError(f"{file} is listed in {path} but missing: run dvc checkout or dvc repro train")
        if (found := sha256_of(file)) != entry["sha256"]:
            raise DataError(f"{file} has changed since training: expected sha256 {entry['sha256']}, found {found}")
        names = {field.name for field in fields(Checkpoint)}
        checkpoints.append(Checkpoint(**{name: entry[name] for name in names}))
    return checkpoints
