"""Exact resume: the whole state of a run, in a working folder outside DVC's outputs, which DVC deletes beforehand.

The folder is named by a fingerprint of the params, the token files, the code and torch's version; which other run may
go on from it, `transformer.training.waiting` decides.
"""

import hashlib
import json
import logging
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from transformer.errors import DataError, DivergedError
from transformer.files import sha256_of, sync_folder
from transformer.model.checkpoints import Checkpoint, not_finite, write_checkpoint, write_tensors

log = logging.getLogger(__name__)

STATE_FILE = "state.safetensors"
PREVIOUS_FILE = "state-before.safetensors"
CODE = ("model", "training", "tokens", "decoding/greedy.py", "bleu.py", "languages.py")


@dataclass(frozen=True)
class Ending:
    """What the end of a run adds: a longer run is validated and writes checkpoints on its grid alone."""

    checkpoint: Checkpoint
    validation: dict[str, float]


@dataclass
class TrainingState:
    """How far training has come; with the weights and Adam's moments, all that the rest of it depends on.

    It is that of a run without end, so that a longer one can go on from it: what only the end makes is in `ending`.
    """

    update: int = 0
    steps_before: int = 0  # of the optimizer, in the training of the parent that its moments come from
    old_loss: float | None = None  # on the parent's validation set before the first update
    epoch: int = 0
    position: int = 0  # updates of this epoch that are done
    seconds: float = 0.0  # of training, validation left out
    elapsed: float = 0.0  # of all
    target_tokens: int = 0
    losses: list[tuple[float, int]] = field(default_factory=list)  # (loss sum, tokens) of every update
    validation_curve: list[dict[str, float]] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    lost: list[Checkpoint] = field(default_factory=list)  # damaged on the disk, so listed no more
    ending: Ending | None = None
    mixed: list[str] = field(default_factory=list)  # changes of params that changed updates
    differs: list[str] = field(default_factory=list)  # what an uninterrupted run with the same params has otherwise

    @property
    def written(self) -> list[Checkpoint]:
        """The checkpoints of the run as far as it has come, that of its end among them."""
        before = [one for one in self.checkpoints if self.ending is None or one.update < self.update]
        return [*before, self.ending.checkpoint] if self.ending else before

    @property
    def validations(self) -> list[dict[str, float]]:
        """The rows of validation.csv, that of the end among them."""
        before = [row for row in self.validation_curve if self.ending is None or row["update"] < self.update]
        return [*before, self.ending.validation] if self.ending else before


def save_state(folder: Path, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write everything that the next update depends on, atomically, with its hash; the state before it stays, too.

    Dropout needs no entry: its randomness is a function of the seed and the update.

    Raises:
        DivergedError: a weight or a moment is not a finite number; nothing is written.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        tensors[f"model.{name}"] = parameter.detach().cpu()
        tensors[f"exp_avg.{name}"] = moments["exp_avg"].cpu()
        tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"].cpu()
    check_finite(tensors, state.update)
    # As tensors: a header of millions of numbers would be slow, and safetensors limits it.
    tensors["losses"] = torch.tensor([loss for loss, _ in state.losses], dtype=torch.float64)
    tensors["loss_tokens"] = torch.tensor([tokens for _, tokens in state.losses], dtype=torch.int64)
    progress = json.dumps(asdict(replace(state, losses=[])), allow_nan=False)
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


def check_checkpoints(folder: Path, state: TrainingState, model: nn.Module, vocabulary: bytes) -> None:
    """Keep those checkpoints of the state whose files below `folder` are as they were written; set others aside.

    That of the state's own update is written again, from `model`, which holds its weights.
    """

    def whole(checkpoint: Checkpoint) -> Checkpoint | None:
        path = folder / checkpoint.file
        if path.exists() and sha256_of(path) != checkpoint.sha256:
            set_aside(path, f"{path} is damaged")
        if not path.exists() and checkpoint.update == state.update:
            checkpoint = write_checkpoint(folder, checkpoint, model.state_dict(), vocabulary)
        if path.exists():
            return checkpoint
        log.warning("warning: without %s; to have it again, delete %s and train anew", path.name, folder.parent)
        state.lost.append(checkpoint)
        return None

    state.checkpoints = [found for one in state.checkpoints if (found := whole(one))]
    if state.ending and (found := whole(state.ending.checkpoint)):
        state.ending = replace(state.ending, checkpoint=found)


def _read_state(path: Path) -> tuple[TrainingState, dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as stored:
            header = stored.metadata() or {}
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        if header["sha256"] != _digest(header["progress"], tensors):
            raise DataError(f"{path} is damaged: its content has another hash than when it was written")
        content = json.loads(header["progress"])
        for name in ("checkpoints", "lost"):
            content[name] = [Checkpoint(**entry) for entry in content.get(name, [])]
        if ending := content["ending"]:
            content["ending"] = Ending(Checkpoint(**ending["checkpoint"]), ending["validation"])
        columns = [tensors.pop(name).tolist() for name in ("losses", "loss_tokens")]
        content["losses"] = list(zip(*columns, strict=True))
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


def check_finite(tensors: dict[str, Tensor], update: int) -> None:
    """Stop a run whose weights or moments have left the numbers, before they are saved.

    Raises:
        DivergedError: names the first such tensor.
    """
    if name := not_finite(tensors):
        raise DivergedError(
            f"{name} holds NaN or infinity after update {update}: lower training.learning_rate_scale or raise "
            "training.warmup_updates"
        )


def _digest(progress: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of all that a state holds."""
    digest = hashlib.sha256(progress.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(memoryview(tensor.contiguous().numpy()).cast("B"))  # type: ignore[arg-type]
    return digest.hexdigest()
