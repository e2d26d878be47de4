"""The train stage: the loop around the updates, with validation, checkpoints and exact resume."""

import csv
import io
import logging
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from transformer.bleu import tokenizer_for
from transformer.errors import InterruptedTrainingError
from transformer.files import link_or_copy, write_json, write_text
from transformer.model.checkpoints import Checkpoint, best_of, delete_others, kept, write_checkpoint, write_index
from transformer.model.folder import ModelConfig, write_config
from transformer.params import ComputeParams, LanguageParams, ModelParams, TrainingParams
from transformer.progress import Display, Silent, display
from transformer.training.batching import Update
from transformer.training.forgetting import OLD_LOSS, forgets, remembering
from transformer.training.loader import Loader
from transformer.training.parent import start_from
from transformer.training.ranks import Alone
from transformer.training.resume import (
    StopRequest,
    TrainingState,
    load_state,
    run_name,
    save_state,
    stop_requests,
    whole_checkpoints,
)
from transformer.training.run import Run, check_finite
from transformer.training.throughput import Meter
from transformer.working_folder import working_folder

log = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class Figures:
    """Figures of one update, for experiment tracking."""

    update: int
    metrics: dict[str, float]


OnFigures = Callable[[Figures], None]


class Paths(TypedDict):
    """The paths that `train` takes."""

    tokens: Path
    work: Path
    checkpoints: Path
    report: Path
    curves: Path
    parent: NotRequired[Path]


@dataclass(frozen=True)
class Pending:
    """An update whose loss is still on the device: reading it would wait for the update to end."""

    update: int
    loss: Tensor
    tokens: int
    groups: Update


def train(
    languages: LanguageParams,
    shape: ModelParams,
    settings: TrainingParams,
    compute: ComputeParams,
    *,
    tokens: Path,
    work: Path,
    checkpoints: Path,
    report: Path,
    curves: Path,
    on_figures: OnFigures,
    parent: Path | None = None,
    ranks: Alone | None = None,
) -> dict[str, Any]:
    """Train to the last update, from the saved state if there is one, and write the stage's outputs.

    Args:
        languages: the direction, for the model's configuration.
        shape: the network.
        settings: how it is trained.
        compute: on which device, with how many threads.
        tokens: the tokenize stage's folder.
        work: where working folders of resumable runs are.
        checkpoints: receives the kept checkpoints, their index and the model's configuration.
        report: receives the numbers of updates, epochs and target tokens.
        curves: receives training.csv and validation.csv.
        on_figures: called with each log interval's and each validation's figures.
        parent: the folder that may hold a model to start from.
        ranks: the processes that share this training; only the first writes, shows and records.

    Returns:
        What clock and machine decided, so that no output holds it and equal trainings give equal bytes: device,
        precision, processes, seconds, target tokens a second; nothing on ranks other than the first.

    Raises:
        InterruptedTrainingError: SIGTERM or SIGINT was received; the state is saved.
        DivergedError: the loss is no longer a finite number.
    """
    run = Run.prepare(shape, settings, compute, tokens, ranks)
    start = start_from(run, parent, languages)
    tokenizer = tokenizer_for(languages.target)
    run.bleu_tokenizer = tokenizer.name
    settled = settings.model_copy(update={"micro_batch_tokens": run.micro_batch_tokens})
    sections = [section.model_dump(exclude={"start_from"}) for section in (languages, shape, settled)]
    sections += [{"parent": start.digest}] if start else []  # its content, however it is named
    # The tokeniser, too: a curve of BLEU must not go on with another one, on a machine that lacks the first.
    name = run_name([*sections, str(run.device), str(run.precision), tokenizer.name], tokens)
    run.ranks.check_same(name)
    with _folder(work, name, run.ranks) as folder, stop_requests() as stop:
        state = load_state(folder, run.model, run.optimizer) if folder else None
        state = run.begin(state or TrainingState(steps_before=run.steps_before))
        if not folder:
            _Loop(run, state, None, Silent(), lambda _: None).run(stop)
            return {}
        state.checkpoints = whole_checkpoints(folder / CHECKPOINTS, state, run.model, run.vocabulary.model)
        _announce(run, state)
        if tokenizer.reason:
            log.warning("validation BLEU is computed with the tokeniser %s: %s", *tokenizer)
        with display(settings.updates, state.update) as shown:
            _Loop(run, state, folder, shown, on_figures).run(stop)
        _write_checkpoints(run, state, languages, folder / CHECKPOINTS, checkpoints)
        if start:
            start.describe(checkpoints)
        write_text(curves / "training.csv", _csv(state.training_curve))
        write_text(curves / "validation.csv", _csv(state.validation_curve))
        write_json(report, {"updates": state.update, "epochs": state.epoch, "target_tokens": state.target_tokens})
        return _measured(run, state)


def _folder(work: Path, name: str, ranks: Alone) -> AbstractContextManager[Path | None]:
    """The working folder on the first rank; the others need none."""
    return working_folder(work, name) if ranks.rank == 0 else nullcontext()


class _Loop:
    """The state that the steps of the loop share."""

    def __init__(
        self, run: Run, state: TrainingState, folder: Path | None, shown: Display, on_figures: OnFigures
    ) -> None:
        self.model_run, self.state, self.folder = run, state, folder
        self.shown, self.on_figures = shown, on_figures
        self.settings = run.settings
        self.started = time.monotonic() - state.elapsed
        self.scheduled_at = state.elapsed
        self.pending: list[Pending] = []
        self.meter = Meter(run.device, run.precision, run.ranks.world, compiled=run.packed, seconds=state.seconds)

    def run(self, stop: StopRequest) -> None:
        """Updates until the last one, an early stop, or a request to stop."""
        state = self.state
        if state.finished:
            return
        if self.model_run.old_valid and state.old_loss is None:
            state.old_loss = self.model_run.ranks.known_to_all(self.model_run.loss_on_old)
        with Loader(self.model_run, state.epoch, state.position) as loader:
            while not state.finished:
                self._update(loader)
                if asked := self.model_run.ranks.agreed(stop.signal):
                    self._save()
                    raise InterruptedTrainingError(
                        f"{asked}: training stopped at update {state.update} with its state saved; "
                        "start it again to resume"
                    )

    def _update(self, loader: Loader) -> None:
        state = self.state
        begun = time.monotonic()
        planned, work = loader.next()
        state.update += 1
        loss = self.model_run.update(state.update, work)
        self.pending.append(Pending(state.update, loss, work.tokens, work.groups))
        state.epoch, state.position = planned.epoch, planned.position
        state.target_tokens += work.tokens
        state.seconds += time.monotonic() - begun
        self.meter.count(work.tokens, work.flops)
        last = state.update == self.settings.updates
        if state.update % self.settings.log_every == 0 or last:
            self._log(loader.waited)
        valid_loss = None
        if state.update % self.settings.validate_every == 0 or last:
            valid_loss = self._validate()
        told = forgets(state, self.settings.forgetting_limit)
        state.finished = last or told is not None or self._out_of_patience()
        state.elapsed = time.monotonic() - self.started
        if told:
            self._stop_forgetting(told)
            return
        scheduled = self._checkpoint_due() or state.finished
        if scheduled or self._is_best(valid_loss):
            self._checkpoint(scheduled, valid_loss)

    def _settle(self) -> None:
        """Wait for the updates that the device still computes, and read their losses all at once.

        Raises:
            DivergedError: one is not finite; names the first such update.
        """
        if not self.pending:
            return
        begun = time.monotonic()
        losses: list[float] = torch.stack([pending.loss for pending in self.pending]).tolist()
        self.state.seconds += time.monotonic() - begun
        for pending, loss in zip(self.pending, losses, strict=True):
            check_finite(loss, pending.update, pending.groups)
            self.state.losses.append((loss, pending.tokens))
        self.pending.clear()

    def _log(self, waited: float) -> None:
        self._settle()
        state = self.state
        loss = sum(loss for loss, _ in state.losses) / sum(tokens for _, tokens in state.losses)
        state.losses.clear()
        row = {"loss": loss, "learning_rate": self.model_run.learning_rate(state.update)}
        state.training_curve.append({"update": state.update, **row})
        speed = self.meter.read(state.seconds, waited)
        self.shown.training(state.update, {**row, **speed})
        self.on_figures(Figures(state.update, {f"train/{name}": value for name, value in {**row, **speed}.items()}))

    def _validate(self) -> float:
        self._settle()
        update = self.state.update
        result = self.model_run.ranks.known_to_all(self.model_run.validate)
        row = {"loss": result.loss, "perplexity": result.perplexity}
        if result.bleu is not None:
            row["bleu"] = result.bleu
        if result.old_loss is not None:
            row[OLD_LOSS] = result.old_loss
        self.state.validation_curve.append({"update": update, **row})
        figures = "  ".join(f"{name} {value:.3f}" for name, value in row.items())
        self.shown.message(f"validation at update {update}: {figures}")
        self.on_figures(Figures(update, {f"valid/{name}": value for name, value in row.items()}))
        return result.loss

    def _out_of_patience(self) -> bool:
        patience = self.settings.early_stopping_patience
        losses = [row["loss"] for row in self.state.validation_curve]
        if patience is None or not losses or self.state.validation_curve[-1]["update"] != self.state.update:
            return False
        stop = len(losses) - 1 - losses.index(min(losses)) >= patience
        if stop:
            self.shown.message(f"early stop: no better validation loss in {patience} validations")
        return stop

    def _stop_forgetting(self, told: str) -> None:
        self.shown.message(told)
        self.state.checkpoints = remembering(self.state, told) if self.folder else []
        self._save()

    def _checkpoint_due(self) -> bool:
        by_updates = self.settings.checkpoint_every_updates
        if by_updates and self.state.update % by_updates == 0:
            return True
        by_minutes = self.settings.checkpoint_every_minutes
        return by_minutes is not None and self.state.elapsed - self.scheduled_at >= 60 * by_minutes

    def _is_best(self, valid_loss: float | None) -> bool:
        best = best_of(self.state.checkpoints)
        return valid_loss is not None and (best is None or best.valid_loss is None or valid_loss < best.valid_loss)

    def _checkpoint(self, scheduled: bool, valid_loss: float | None) -> None:
        """Write the weights, then the state that lists them, then delete what it no longer lists."""
        if not self.folder:
            return
        self._settle()
        state = self.state
        minutes = state.elapsed / 60 if self.settings.checkpoint_every_minutes else None
        checkpoint = Checkpoint(state.update, scheduled, valid_loss, minutes)
        weights, vocabulary = self.model_run.model.state_dict(), self.model_run.vocabulary.model
        checkpoint = write_checkpoint(self.folder / CHECKPOINTS, checkpoint, weights, vocabulary)
        before = state.checkpoints  # the state before this one, which may be needed again, lists them
        state.checkpoints = kept([*before, checkpoint], self.settings.keep_last)
        if scheduled:
            self.scheduled_at = state.elapsed
        self._save()
        delete_others(self.folder / CHECKPOINTS, [*before, *state.checkpoints])

    def _save(self) -> None:
        self._settle()
        if self.folder:
            save_state(self.folder, self.state, self.model_run.model, self.model_run.optimizer)


def _announce(run: Run, state: TrainingState) -> None:
    weights = sum(parameter.numel() for parameter in run.model.parameters())
    pairs, left_out = len(run.train_sentences), len(run.train) - len(run.train_sentences)
    log.info("%.1f million weights on %s in %s", weights / 1e6, run.device, str(run.precision).removeprefix("torch."))
    if run.ranks.world > 1:
        machines = run.ranks.world // run.ranks.on_this_machine
        log.info("%d ranks, %d on each of %d machines", run.ranks.world, run.ranks.on_this_machine, machines)
    log.info("%d training pairs, %d left out as longer than model.max_positions", pairs, left_out)
    if run.settings.micro_batch_tokens is None:
        log.info("training.micro_batch_tokens: null, which is %d on this device", run.micro_batch_tokens)
    if run.packed:
        log.info("sentences are packed without padding; the first update compiles the network, which takes minutes")
    if state.update:
        log.info("resuming after update %d", state.update)


def _write_checkpoints(
    run: Run, state: TrainingState, languages: LanguageParams, written: Path, checkpoints: Path
) -> None:
    checkpoints.mkdir(parents=True, exist_ok=True)
    for checkpoint in state.checkpoints:
        target = checkpoints / checkpoint.file
        target.unlink(missing_ok=True)
        link_or_copy(written / checkpoint.file, target)
    write_index(checkpoints, state.checkpoints)
    config = ModelConfig(languages=languages, vocabulary_size=run.vocabulary.size, model=run.shape)
    write_config(checkpoints, config)


def _measured(run: Run, state: TrainingState) -> dict[str, Any]:
    return {
        "device": str(run.device),
        "precision": str(run.precision).removeprefix("torch."),
        "world_size": run.ranks.world,
        "target_tokens_per_second": round(state.target_tokens / max(state.seconds, 1e-9), 1),
        "training_seconds": round(state.seconds, 1),
        "elapsed_seconds": round(state.elapsed, 1),
    }


def _csv(rows: list[dict[str, float]]) -> str:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: round(value, 6) for name, value in row.items()} for row in rows)
    return stream.getvalue()
