"""Checkpoints: weights of one update in safetensors, and an index of those that are kept."""

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from transformer.errors import DataError
from transformer.files import atomic_path, sha256_of, write_json

INDEX_FILE = "index.json"
PARENT_FILE = "parent.json"  # name and hash of the model that the training started from


def not_finite(tensors: dict[str, Tensor]) -> str | None:
    """The name of the first tensor that holds NaN or infinity; None where all are finite."""
    names = [name for name, tensor in tensors.items() if tensor.is_floating_point()]
    finite = [torch.isfinite(tensors[name]).all() for name in names]
    if not finite or torch.stack(finite).all():  # one question to the device
        return None
    return next(name for name, whole in zip(names, finite, strict=True) if not whole)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors in a checkpoint or model file, by parameter name.

    Raises:
        DataError: the file is missing, not safetensors, or holds what is not a finite number.
    """
    try:
        weights = load_file(path)
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run `dvc repro`, or `dvc pull` to fetch it") from None
    except SafetensorError as error:
        raise DataError(f"{path} is not a safetensors file: {error}") from None
    if name := not_finite(weights):
        raise DataError(f"{path}: {name} holds NaN or infinity: the training has diverged; train again")
    return weights


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, str] | None = None) -> None:
    """Write a safetensors file, atomically.

    Raises:
        OSError: as any other writing does; safetensors hides it in an error of its own.
    """
    with atomic_path(path) as temporary:
        try:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=header)
        except SafetensorError as error:
            if number := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None
            raise


@dataclass(frozen=True)
class Checkpoint:
    """One kept checkpoint.

    `scheduled` is False where it was written only because its validation loss was the best so far. `valid_loss` is
    None where that update was not validated; `minutes`, since the start of training, is None where
    checkpoints are written by updates alone, so that the files do not depend on the clock. `sha256` is that of the
    file when it was written.
    """

    update: int
    scheduled: bool = True
    valid_loss: float | None = None
    minutes: float | None = None
    sha256: str | None = None

    @property
    def file(self) -> str:
        """Its name in the checkpoints folder."""
        return f"update-{self.update:08d}.safetensors"


FIELDS = {field.name for field in fields(Checkpoint)}


def write_checkpoint(
    folder: Path, checkpoint: Checkpoint, weights: dict[str, Tensor], vocabulary: bytes
) -> Checkpoint:
    """Write the weights of `checkpoint` into `folder`, atomically; the header names the vocabulary's SHA-256.

    Returns the checkpoint with the file's hash. Only one key: safetensors writes several in random order, and equal
    checkpoints must be equal files.
    """
    header = {"vocabulary": hashlib.sha256(vocabulary).hexdigest()}
    write_tensors(folder / checkpoint.file, weights, header)
    return replace(checkpoint, sha256=sha256_of(folder / checkpoint.file))


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
    """List the checkpoints of `folder` with their hashes; holds no times.

    Raises:
        DataError: a file is not the one that was written.
    """
    best = best_of(checkpoints)
    entries = []
    for one in checkpoints:
        found = sha256_of(folder / one.file)
        if one.sha256 not in (None, found):
            raise DataError(f"{folder / one.file} is damaged: written with sha256 {one.sha256}, found {found}")
        entries.append({"file": one.file, **asdict(one), "sha256": found})
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
    for entry in _entries(path):
        file = folder / entry["file"]
        if not file.exists():
            raise DataError(f"{file} is listed in {path} but missing: run dvc checkout or dvc repro train")
        if (found := sha256_of(file)) != entry["sha256"]:
            raise DataError(f"{file} has changed since training: expected sha256 {entry['sha256']}, found {found}")
        checkpoints.append(Checkpoint(**{name: entry[name] for name in FIELDS}))
    return checkpoints


def read_parent(folder: Path) -> dict[str, str] | None:
    """`name` and `sha256` of the model folder that these checkpoints' training started from; None: random weights.

    Raises:
        DataError: what the training wrote is damaged.
    """
    path = folder / PARENT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: str(content[key]) for key in ("name", "sha256")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise DataError(f"{path} is damaged ({words}): python -m flows.restore train, or dvc repro train") from None


def _entries(path: Path) -> list[dict[str, Any]]:
    """The entries of an index, each with the fields of a checkpoint and a plain file name."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))["checkpoints"]
        if not entries:
            raise ValueError("it lists no checkpoint")
        for entry in entries:
            if not (entry.keys() >= FIELDS and type(entry["update"]) is int):
                raise ValueError("an entry is incomplete")
            if entry["file"] != Checkpoint(entry["update"]).file:
                raise ValueError(f"{entry['file']!r} is not the file of update {entry['update']}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        words = " ".join(str(error).split())
        raise DataError(f"{path} is damaged ({words}): python -m flows.restore train, or dvc repro train") from None
    found: list[dict[str, Any]] = entries
    return found
