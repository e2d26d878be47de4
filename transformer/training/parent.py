"""Warm starts: the weights, and if asked Adam's moments, with which the training of another model ended."""

import hashlib
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from transformer.errors import DataError, ParamsError
from transformer.files import sha256_of, write_json
from transformer.model.checkpoints import PARENT_FILE, read_weights
from transformer.model.folder import CONFIG_FILE, WEIGHTS_FILE, ModelConfig, check_files, read_config
from transformer.params import LanguageParams, ModelParams
from transformer.parent_folder import DESCRIPTION_FILE, MODEL_FOLDER, OPTIMIZER_FILE
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

if TYPE_CHECKING:
    from transformer.training.run import Run

log = logging.getLogger(__name__)

EMBEDDING = "embedding.weight"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class Parent:
    """A model folder to go on from, with its vocabulary."""

    folder: Path
    name: str  # what it was asked for by and resolved to
    config: ModelConfig
    vocabulary: Vocabulary
    optimizer: Path | None  # the moments that its training ended with, if they are taken over

    @classmethod
    def open(cls, folder: Path) -> "Parent | None":
        """The parent that the folder holds; None if there is none.

        Raises:
            DataError: a file of it is missing or damaged.
        """
        model = folder / MODEL_FOLDER
        if not model.is_dir():
            return None
        check_files(model)
        moments = folder / OPTIMIZER_FILE
        return cls(
            folder=model,
            name=_name(folder / DESCRIPTION_FILE),
            config=read_config(model),
            vocabulary=Vocabulary.load(model / VOCABULARY_FILE),
            optimizer=moments if moments.exists() else None,
        )

    @property
    def digest(self) -> str:
        """SHA-256 over all that a training takes from it."""
        files = [self.folder / name for name in (WEIGHTS_FILE, CONFIG_FILE, VOCABULARY_FILE)]
        files += [self.optimizer] if self.optimizer else []
        return hashlib.sha256("".join(map(sha256_of, files)).encode()).hexdigest()

    def check_network(self, languages: LanguageParams, shape: ModelParams) -> None:
        """Refuse another network; dropout may differ and, where positions are constant, the longest sentence.

        Raises:
            ParamsError: names each key with both values.
        """
        free = {"dropout"} | ({"max_positions"} if shape.positions == "sinusoidal" else set())
        asked, had = shape.model_dump(exclude=free), self.config.model.model_dump(exclude=free)
        if wrong := [f"model.{key} = {asked[key]}, there {had[key]}" for key in asked if asked[key] != had[key]]:
            raise ParamsError(
                f"training.start_from: {self.name} is another network ({'; '.join(wrong)}): take over its values, or "
                "set start_from to null"
            )
        if (there := self.config.languages) != languages:
            words = "%s translates %s → %s: its weights are only a beginning for %s → %s"
            log.warning(words, self.name, there.source, there.target, languages.source, languages.target)

    def check_vocabulary(self, vocabulary: Vocabulary) -> None:
        """Refuse tokens of a vocabulary that does not begin with the parent's.

        Raises:
            DataError: they are such.
        """
        ids = list(range(self.vocabulary.size))
        if vocabulary.size < len(ids) or vocabulary.pieces(ids) != self.vocabulary.pieces(ids):
            raise DataError(
                f"the tokens were not encoded with the vocabulary of {self.name}: dvc repro --force tokenize"
            )

    def put_into(self, model: nn.Module, vocabulary: Vocabulary, optimizer: torch.optim.Optimizer) -> int:
        """Give the network the parent's weights and, if they are taken over, the optimizer its moments.

        A new piece's row of the embedding is the mean of the rows of the pieces that the parent splits it into; its
        moments are zero.

        Returns:
            The steps that the moments have behind them, with which Adam corrects their bias; 0 for a fresh optimizer.
        """
        new = [self.vocabulary.spell(piece) for piece in vocabulary.pieces(_ids_from(self.vocabulary, vocabulary))]
        log.info(
            "starting from %s: %d pieces of its vocabulary%s, %s optimizer", self.name, self.vocabulary.size,
            f" and {len(new)} new ones" if new else "", "its" if self.optimizer else "a fresh",
        )  # fmt: skip
        weights = read_weights(self.folder / WEIGHTS_FILE)
        rows = [weights[EMBEDDING][ids].mean(dim=0) for ids in new]
        weights[EMBEDDING] = torch.cat([weights[EMBEDDING], *(row[None] for row in rows)])
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise DataError(f"the weights of {self.name} do not fit: {' '.join(str(error).split())[:300]}") from None
        return self._moments(model, optimizer, len(new)) if self.optimizer else 0

    def _moments(self, model: nn.Module, optimizer: torch.optim.Optimizer, new: int) -> int:
        assert self.optimizer is not None
        tensors, steps = read_moments(self.optimizer)
        for name, parameter in model.named_parameters():
            moments = {kind: tensors[f"{kind}.{name}"] for kind in MOMENTS}
            if name == EMBEDDING:
                moments = {kind: nn.functional.pad(one, (0, 0, 0, new)) for kind, one in moments.items()}
            on_device = {kind: one.to(parameter.device) for kind, one in moments.items()}
            step = torch.tensor(float(steps), device=parameter.device)
            optimizer.state[parameter] = {"step": step, **on_device}
        return steps

    def describe(self, folder: Path) -> None:
        """Name the parent beside the checkpoints that come from it."""
        write_json(folder / PARENT_FILE, {"name": self.name, "sha256": sha256_of(self.folder)})


def start_from(run: "Run", folder: Path | None, languages: LanguageParams) -> Parent | None:
    """Let the run begin with the weights of the parent, if the folder holds one.

    Raises:
        ParamsError: it is another network.
        DataError: it is missing, damaged, or the tokens were encoded with another vocabulary.
    """
    parent = Parent.open(folder) if folder else None
    if parent:
        parent.check_network(languages, run.shape)
        parent.check_vocabulary(run.vocabulary)
        run.steps_before = parent.put_into(run.model, run.vocabulary, run.optimizer)
    elif asked := run.settings.start_from:
        raise DataError(f"training.start_from = {asked!r}: {folder} holds no model: dvc repro --force parent")
    return parent


def _ids_from(old: Vocabulary, new: Vocabulary) -> list[int]:
    return list(range(old.size, new.size))


def _name(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["resolved"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is missing or damaged ({error}): dvc repro --force parent") from None


def read_moments(path: Path) -> tuple[dict[str, Tensor], int]:
    """Adam's moments by parameter, and how many steps they have behind them, from a file or a training's state.

    Raises:
        DataError: the file is damaged.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            progress: dict[str, Any] = json.loads((stored.metadata() or {})["progress"])
            names = [name for name in stored.keys() if name.startswith(MOMENTS)]  # noqa: SIM118
            steps = int(progress["update"]) + int(progress.get("steps_before", 0))
            return {name: stored.get_tensor(name) for name in names}, steps
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is damaged: {' '.join(str(error).split())}") from None
