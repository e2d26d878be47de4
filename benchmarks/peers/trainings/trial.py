"""What a training is asked to do, and the clock that watches it; both stand in JSON beside its other files."""

import json
import resource
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TRIAL, RESULT = "trial.json", "result.json"
LOSS_UPDATES = 10  # the last ones, over whose target tokens the loss is the mean


@dataclass(frozen=True)
class Recipe:
    """The model and its training. Whatever a toolkit does otherwise is said where it is trained."""

    d_model: int = 256
    d_ff: int = 1024
    heads: int = 4
    layers: int = 3  # of the encoder, and of the decoder
    vocabulary_size: int = 8000
    max_positions: int = 256
    dropout: float = 0.1  # on embeddings and on each sub-layer's output
    label_smoothing: float = 0.1
    adam_beta1: float = 0.9
    adam_beta2: float = 0.98
    adam_epsilon: float = 1e-9
    learning_rate_scale: float = 0.35
    warmup_updates: int = 300
    batch_tokens: int = 2048
    seed: int = 1

    def learning_rate(self, update: int) -> float:
        """Of this update, counted from 1 (paper, 5.3)."""
        steps = min(update**-0.5, update * self.warmup_updates**-1.5)
        return float(self.learning_rate_scale * self.d_model**-0.5 * steps)


@dataclass(frozen=True)
class Trial:
    """One training: `warm_up` updates, then `updates` that count."""

    corpus: Path  # tokens/, pieces/ and pieces.txt, as `benchmarks.peers.corpus` makes them
    folder: Path  # for the training's own files and its result
    precision: str  # bf16 or fp32
    warm_up: int
    updates: int
    recipe: Recipe = field(default_factory=Recipe)

    @property
    def all_updates(self) -> int:
        """With those of the warm-up."""
        return self.warm_up + self.updates

    @classmethod
    def asked(cls) -> "Trial":
        """The one whose folder is the program's argument."""
        content: dict[str, Any] = json.loads((Path(sys.argv[1]) / TRIAL).read_text(encoding="utf-8"))
        paths = {name: Path(content[name]) for name in ("corpus", "folder")}
        return cls(**content | paths | {"recipe": Recipe(**content["recipe"])})

    def ask(self) -> None:
        """Write it into its folder."""
        content = asdict(self) | {"corpus": str(self.corpus), "folder": str(self.folder)}
        (self.folder / TRIAL).write_text(json.dumps(content, indent=2), encoding="utf-8")

    def pieces(self, side: str) -> Path:
        """The training sentences of a side (source or target), a line each, pieces divided by spaces."""
        return self.corpus / "pieces" / f"train.{side}"

    @property
    def vocabulary(self) -> Path:
        """A line a piece, in the order of their ids, without the four special ones."""
        return self.corpus / "pieces.txt"


class Clock:
    """Counts the batches of a training's updates, and times those after the warm-up, by the wall and by the CPU."""

    def __init__(self, trial: Trial) -> None:
        self._trial, self._updates, self._tokens = trial, 0, 0
        self._last: list[tuple[int, float]] = []  # of the last updates: target tokens and loss
        self._update = (0, 0.0)
        self._begun = (0.0, 0.0)

    def saw(self, tokens: int, loss: float) -> None:
        """A batch of an update: its target tokens, the end of each sentence among them and padding not; its loss.

        The loss is the label-smoothed cross-entropy summed over them, in nats, as torch defines it.
        """
        self._update = self._update[0] + tokens, self._update[1] + loss

    def updated(self, parameters: int) -> None:
        """An update has ended, of a network with so many weights that are trained; the last one writes the result."""
        self._updates += 1
        if self._updates > self._trial.warm_up:
            self._tokens += self._update[0]
        self._last, self._update = [*self._last, self._update][-LOSS_UPDATES:], (0, 0.0)
        if self._updates == self._trial.warm_up:
            self._begun = _now()
        if self._updates == self._trial.all_updates:
            self._write(parameters)

    def _write(self, parameters: int) -> None:
        seconds, cpu_seconds = (end - begin for begin, end in zip(self._begun, _now(), strict=True))
        result = {
            "target_tokens": self._tokens,
            "updates": self._trial.updates,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "loss": sum(loss for _, loss in self._last) / sum(tokens for tokens, _ in self._last),
            "parameters": parameters,
        }
        path = self._trial.folder / RESULT
        path.with_suffix(".new").write_text(json.dumps(result, indent=2), encoding="utf-8")
        path.with_suffix(".new").replace(path)

    def watch_optimizers(self) -> None:
        """Take each step of any optimizer of torch's for the end of an update."""
        from torch.optim.optimizer import Optimizer, register_optimizer_step_post_hook

        def stepped(optimizer: Optimizer, _args: Any, _keywords: Any) -> None:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            self.updated(sum(weight.numel() for weight in weights if weight.grad is not None))

        register_optimizer_step_post_hook(stepped)


def _now() -> tuple[float, float]:
    """Seconds by the wall, and of this process's threads by the CPU, user and system."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return time.perf_counter(), used.ru_utime + used.ru_stime
