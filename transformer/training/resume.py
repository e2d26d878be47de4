"""Stopping on request and exact resume: the whole state of a run, in a working folder that only equal runs share.

The folder lies outside DVC's outputs, which DVC deletes before a stage runs, and is named by a fingerprint of the
params, the token files, the code and torch's version: no other training ever finds it.
"""

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from transformer.files import atomic_path
from transformer.model.checkpoints import Checkpoint
from transformer.working_folder import fingerprint

SIGNALS = (signal.SIGTERM, signal.SIGINT)
STATE_FILE = "state.safetensors"
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
    """Write everything that the next update depends on, atomically.

    Dropout needs no entry: its randomness is a function of the seed and the update.
    """
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        moments = optimizer.state[parameter]
        tensors[f"model.{name}"] = parameter.detach()
        tensors[f"exp_avg.{name}"] = moments["exp_avg"]
        tensors[f"exp_avg_sq.{name}"] = moments["exp_avg_sq"]
    with atomic_path(folder / STATE_FILE) as temporary:
        save_file(tensors, temporary, metadata={"progress": json.dumps(asdict(state))})


def load_state(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> TrainingState | None:
    """Restore what `save_state` wrote; None where nothing was saved yet."""
    path = folder / STATE_FILE
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as stored:
        content = json.loads(stored.metadata()["progress"])
        step = torch.tensor(float(content["update"]))
        for name, parameter in model.named_parameters():
            with torch.no_grad():
                parameter.copy_(stored.get_tensor(f"model.{name}"))
            moments = {
                key: stored.get_tensor(f"{key}.{name}").to(parameter.device) for key in ("exp_avg", "exp_avg_sq")
            }
            optimizer.state[parameter] = {"step": step.clone().to(parameter.device), **moments}
    content["checkpoints"] = [Checkpoint(**entry) for entry in content["checkpoints"]]
    content["losses"] = [(loss, tokens) for loss, tokens in content["losses"]]
    return TrainingState(**content)
