"""The train stage: the loop around the updates, with validation, checkpoints and exact resume."""

import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from transformer.bleu import tokenizer_for
from transformer.errors import DivergedError, InterruptedTrainingError
from transformer.model.checkpoints import Checkpoint, delete_others, kept, write_checkpoint
from transformer.params import ComputeParams, LanguageParams, ModelParams, TrainingParams
from transformer.progress import Display, Silent, display, in_figures
from transformer.stopping import StopRequest, stop_requests
from transformer.training.announce import announce, measured
from transformer.training.batching import Update
from transformer.training.carry_over import stops_early
from transformer.training.forgetting import OLD_LOSS, forgets, remembering
from transformer.training.loader import Loader
from transformer.training.outputs import interval, write_checkpoints, write_curves, write_report
from transformer.training.parent import Parent, start_from
from transformer.training.ranks import Alone
from transformer.training.resume import Ending, TrainingState, check_checkpoints, save_state
from transformer.training.resume import check_finite as check_finite_weights
from transformer.training.run import Run, check_finite
from transformer.training.throughput import Meter
from transformer.training.waiting import run_settings, state_to_go_on
from transformer.working_folder import Settings, name_of, working_folder, write_progress

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
        InterruptedTrainingError: SIGTERM, SIGINT or SIGHUP was received; the state is saved.
        DivergedError: a loss or a weight is no longer a finite number.
        ParamsError: a finished run is to be longer, which its schedule does not allow without a word.
    """
    run = Run.prepare(shape, settings, compute, tokens, ranks)
    start = start_from(run, parent, languages)
    tokenizer = tokenizer_for(languages.target)
    run.bleu_tokenizer = tokenizer.name
    decided = _settings(languages, run, tokens, start)
    run.ranks.check_same(name_of(decided))
    with _folder(work, name_of(decided), run.ranks) as folder, stop_requests() as stop:
        first = TrainingState(steps_before=run.steps_before)
        state = run.begin(state_to_go_on(work, folder, decided, run) if folder else first)
        if not folder:
            _Loop(run, state, None, Silent(), lambda _: None).run(stop)
            return {}
        check_checkpoints(folder / CHECKPOINTS, state, run.model, run.vocabulary.model)
        announce(run, state, tokenizer)
        with display(settings.updates, state.update) as shown:
            _Loop(run, state, folder, shown, on_figures).run(stop)
        _write_outputs(run, state, languages, start, folder, checkpoints, report, curves)
        return measured(run, state)


def _write_outputs(
    run: Run,
    state: TrainingState,
    languages: LanguageParams,
    start: Parent | None,
    folder: Path,
    checkpoints: Path,
    report: Path,
    curves: Path,
) -> None:
    write_checkpoints(run, state, languages, folder / CHECKPOINTS, checkpoints)
    if start:
        start.describe(checkpoints)
    write_curves(run, state, curves)
    write_report(state, run.settings.keep_last, report)
    write_progress(folder, state.update, run.settings.updates, finished=True)


def _settings(languages: LanguageParams, run: Run, tokens: Path, start: Parent | None) -> Settings:
    """What names the run's working folder: `null`, `auto` as what the machine makes of them, a parent by content."""
    settled = run.settings.model_copy(update={"micro_batch_tokens": run.micro_batch_tokens, "start_from": None})
    sections = {"languages": languages, "model": run.shape, "training": settled}
    return run_settings(
        {name: section.model_dump() for name, section in sections.items()},
        tokens,
        device=str(run.device),
        resolved_precision=str(run.precision).removeprefix("torch."),
        packed=str(run.packed).lower(),
        bleu_tokenizer=run.bleu_tokenizer,
        **({"parent": start.digest} if start else {}),
    )


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
        if state.ending is None and state.update:
            self._conclude()  # with other params than it was saved, this update may have to be validated, or the last
        if state.ending:
            return
        if self.model_run.old_valid and state.old_loss is None:
            state.old_loss = self.model_run.ranks.known_to_all(self.model_run.loss_on_old)
        with Loader(self.model_run, state.epoch, state.position) as loader:
            while not state.ending:
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
        if state.update % self.settings.log_every == 0 or state.update == self.settings.updates:
            self._log(loader.waited)
        self._conclude()

    def _conclude(self) -> None:
        """After an update: validation, checkpoint and end, where they are due and not done yet."""
        state = self.state
        update, best = state.update, min((row["loss"] for row in state.validation_curve), default=math.inf)
        row = next((row for row in state.validation_curve if row["update"] == update), None)
        written = next((one for one in state.checkpoints if one.update == update), None)
        new, ends = row is None and update % self.settings.validate_every == 0, update == self.settings.updates
        if row is None and (new or ends):
            row = self._validate()
        if new and row:
            state.validation_curve.append(row)
        state.elapsed = time.monotonic() - self.started
        if row and (told := forgets(state, row, self.settings.forgetting_limit)):
            self._stop_forgetting(told, row)
            return
        improved = new and row is not None and row["loss"] < best
        ends = ends or (row is not None and self._out_of_patience())
        due = written.scheduled if written else self._checkpoint_due()
        if improved or ends or (due and (new or not written)):
            self._checkpoint(due or improved, due, ends, row)

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
        row = interval(self.model_run, state, (state.update - 1) // self.settings.log_every * self.settings.log_every)
        speed = self.meter.read(state.seconds, waited)
        self.shown.training(state.update, {**row, **speed})
        self.on_figures(Figures(state.update, {f"train/{name}": value for name, value in {**row, **speed}.items()}))

    def _validate(self) -> dict[str, float]:
        """The row of validation.csv for this update.

        Raises:
            DivergedError: the loss is not finite.
        """
        self._settle()
        update = self.state.update
        result = self.model_run.ranks.known_to_all(self.model_run.validate)
        if not math.isfinite(result.loss):
            raise DivergedError(
                f"the validation loss became {result.loss} at update {update}: lower training.learning_rate_scale or "
                "raise training.warmup_updates"
            )
        row = {"loss": result.loss, "perplexity": result.perplexity}
        if result.bleu is not None:
            row["bleu"] = result.bleu
        if result.old_loss is not None:
            row[OLD_LOSS] = result.old_loss
        figures = "  ".join(f"{name} {in_figures(value, 3)}" for name, value in row.items())
        self.shown.message(f"validation at update {update}: {figures}")
        self.on_figures(Figures(update, {f"valid/{name}": value for name, value in row.items()}))
        return {"update": update, **row}

    def _out_of_patience(self) -> bool:
        patience = self.settings.early_stopping_patience
        stop = stops_early(self.state.validation_curve, patience)
        if stop:
            self.shown.message(f"early stop: no better validation loss in {patience} validations")
        return stop

    def _stop_forgetting(self, told: str, row: dict[str, float]) -> None:
        """End with the checkpoints that were within the limit, the last of them as that of the end."""
        self.shown.message(told)
        if not self.folder:
            self.state.ending = Ending(Checkpoint(self.state.update), row)
            return
        *self.state.checkpoints, last = remembering(self.state, told)
        self.state.ending = Ending(last, row)
        self._save()

    def _checkpoint_due(self) -> bool:
        by_updates = self.settings.checkpoint_every_updates
        if by_updates and self.state.update % by_updates == 0:
            return True
        by_minutes = self.settings.checkpoint_every_minutes
        return by_minutes is not None and self.state.elapsed - self.scheduled_at >= 60 * by_minutes

    def _checkpoint(self, stays: bool, due: bool, ends: bool, row: dict[str, float] | None) -> None:
        """Write the weights, then the state that lists them, then delete what it no longer lists.

        Args:
            stays: the checkpoint is one of an endless run: `due` by the schedule, or the best so far.
            due: it is scheduled.
            ends: it is the last one of this run.
            row: of validation.csv, if this update was validated.
        """
        state = self.state
        if not self.folder:
            state.ending = Ending(Checkpoint(state.update), row) if ends and row else None
            return
        self._settle()
        minutes = state.elapsed / 60 if self.settings.checkpoint_every_minutes else None
        on_grid = state.update % self.settings.validate_every == 0
        checkpoint = Checkpoint(state.update, due, row["loss"] if row and on_grid else None, minutes)
        weights, vocabulary = self.model_run.model.state_dict(), self.model_run.vocabulary.model
        check_finite_weights(weights, state.update)
        checkpoint = write_checkpoint(self.folder / CHECKPOINTS, checkpoint, weights, vocabulary)
        before = state.written  # the state before this one, which may be needed again, lists them
        if stays:
            earlier = [one for one in state.checkpoints if one.update < state.update]
            state.checkpoints = kept([*earlier, checkpoint], self.settings.keep_last)
        if ends and row:
            state.ending = Ending(replace(checkpoint, scheduled=True, valid_loss=row["loss"]), row)
        if due:
            self.scheduled_at = state.elapsed
        self._save()
        delete_others(self.folder / CHECKPOINTS, [*before, *state.written, *state.checkpoints])

    def _save(self) -> None:
        self._settle()
        if self.folder:
            save_state(self.folder, self.state, self.model_run.model, self.model_run.optimizer)
            write_progress(self.folder, self.state.update, self.settings.updates, finished=False)
