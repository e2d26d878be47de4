"""Stopping on request and exact resume: the whole state of a run, in a working folder that only equal runs share.

The folder lies outside DVC's outputs, which DVC deletes before a stage runs, and is named by a fingerprint of the
params, the token files, the code and torch's version: no other training ever finds it.
"""

import hashlib
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from transformer.errors import DataError
from transformer.files import sha256_of, sync_folder
from transformer.model.checkpoints import Checkpoint, write_checkpoint, write_tensors
from transformer.working_folder import fingerprint

log = logging.getLogger(__name__)

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STATE_FILE = "state.safetensors"
PREVIOUS_FILE = "state-before.safetensors"
CODE = ("model", "training", "tokens", "decoding/greedy.py", "bleu.py", "languages.py")


class StopRequest:
    """Says whether a signal has come, and which."""

    def __init__(self) -> None:
        self.signal: str | None = None

    def __call__(self, number: int, _frame: FrameType | None) -> None:
        self.signal = signal.Signals(number).name


@contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Listen for SIGNALS during the body; the previous handlers are restored after it."""
    request = StopRequest()
    former = {number: signal.signal(number, request) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@dataclass
class TrainingState:
    """How far training has come; with the weights and Adam's moments, all that the rest of it depends on."""

    update: int = 0
    steps_before: int = 0  # of the optimizer, in the training of the parent that its moments come from
    old_loss: float | None = None  # on the parent's validation set before the first update
    epoch: int = 0
    position: int = 0  # updates of this epoch that are done
    seconds: float = 0.0  # of training, validation left out
    elapsed: float = 0.0  # of all
    target_tokens: int = 0
    losses: list[tuple[float, int]] = field(default_factory=list)  # (loss sum, tokens) since the last log line
    training_curve: list[dict[str, float]] = field(default_factory=list)
    validation_curve: list[dict[str, float]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    finished: bool = False


def run_name(settings: Any, tokens: Path) -> str:
    """The name of a run with these settings and token files, this code and this version of torch."""
    return fingerprint([settings, torch.__version__], CODE, tokens)


def save_state(folder: Path, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write everything that the next update depends on, atomically, with its hash; the state before it stays, too.

    Dropout needs no entry: its randomness is a function of the seed and the update.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        tensors[f"model.{name}"] = parameter.detach().cpu()
        tensors[f"exp_avg.{name}"] = moments["exp_avg"].cpu()
        tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"].cpu()
    progress = json.dumps(asdict(state))
    new = folder / f"{STATE_FILE}.new"
    write_tensors(new, tensors, {"progress": progress, "sha256": _digest(progress, tensors)})
    if (folder / STATE_FILE).exists():
        (folder / STATE_FILE).replace(folder / PREVIOUS_FILE)
    new.replace(folder / STATE_FILE)
    sync_folder(folder)


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState | None:
    """Restore what `save_state` wrote last and is whole; None where there is nothing.

    A damaged state is named in the log and set aside; the one before it leads to the same bytes.
    """
    for path in (folder / STATE_FILE, folder / PREVIOUS_FILE):
        if not path.exists():
            continue
        try:
            state, tensors = _read_state(path)
            _put(tensors, state.steps_before + state.update, model, optimizer)
        except DataError as error:
            set_aside(path, str(error))
            continue
        return state
    return None


def set_aside(path: Path, reason: str) -> None:
    """Rename a damaged file so that nothing reads it again, and say so."""
    there = path.with_name(f"damaged-{path.name}")
    path.replace(there)
    log.warning("warning: %s: kept as %s, training goes on from what was saved before it", reason, there.name)


def whole_checkpoints(folder: Path, state: TrainingState, model: nn.Module, vocabulary: bytes) -> list[Checkpoint]:
    """The checkpoints of the state whose files below `folder` are as they were written; others are set aside.

    That of the state's own update is written again, from `model`, which holds its weights.
    """
    whole = []
    for checkpoint in state.checkpoints:
        path = folder / checkpoint.file
        if path.exists() and sha256_of(path) != checkpoint.sha256:
            set_aside(path, f"{path} is damaged")
        if not path.exists() and checkpoint.update == state.update:
            checkpoint = write_checkpoint(folder, checkpoint, model.state_dict(), vocabulary)
        if path.exists():
            whole.append(checkpoint)
        else:
            log.warning("warning: without %s; to have it again, delete %s and train anew", path.name, folder.parent)
    return whole


def _read_state(path: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if header["sha256"] != _digest(header["progress"], tensors):
            raise DataError(f"{path} is damaged: its content has another hash than when it was written")
        content = json.loads(header["progress"])
        content["checkpoints"] = [Checkpoint(**entry) for entry in content["checkpoints"]]
        content["losses"] = [(loss, tokens) for loss, tokens in content["losses"]]
        return TrainingState(**content), tensors
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())}") from None


def _put(tensors: dict[str, Tensor], steps: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    step = torch.tensor(float(steps))
    for name, parameter in model.named_parameters():
        with torch.no_grad():
            parameter.copy_(tensors[f"model.{name}"])
        moments = {key: tensors[f"{key}.{name}"].to(parameter.device) for key in ("exp_avg", "exp_avg_sq")}
        optimizer.state[parameter] = {"step": step.clone().to(parameter.device), **moments}


def _digest(progress: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that a state holds."""
    digest = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))  # type: ignore[arg-type]
    return digest.hexdigest()
