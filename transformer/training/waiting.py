"""Which state a run may go on from: its own, or that of a run whose updates so far are the ones that it would make.

What a run is validated and logged by changes no update, and neither does a longer run whose learning rates were the
same so far. All else (data, code, torch, seed, …) does: then the log says why the nearest state is not taken.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from transformer.errors import ParamsError
from transformer.files import files_below, link_or_copy, locked
from transformer.params import TrainingParams
from transformer.training.carry_over import carry_over
from transformer.training.resume import CODE, PREVIOUS_FILE, STATE_FILE, TrainingState, load_state, save_state
from transformer.training.run import Run
from transformer.training.schedule import same_rates
from transformer.working_folder import (
    LOCK_FILE,
    PIN_FILE,
    PROGRESS_FILE,
    SETTINGS_FILE,
    Settings,
    State,
    differences,
    in_words,
    settings_of,
    states_below,
    write_progress,
    write_settings,
)

log = logging.getLogger(__name__)

# They change what is shown, kept or written at the end. `compile` and `precision` count as what they come to.
NEUTRAL = {
    "languages.source",
    "languages.target",
    "bleu_tokenizer",
    "training.precision",
    "training.compile",
    "training.log_every",
    "training.validate_every",
    "training.validation_bleu_sentences",
    "training.early_stopping_patience",
    "training.checkpoint_every_updates",
    "training.checkpoint_every_minutes",
    "training.keep_last",
}
RATES = {  # they count as the learning rates that they come to
    "training.updates",
    "training.schedule",
    "training.warmup_updates",
    "training.learning_rate_scale",
    "training.rewarm_after",
}
ROUNDING = "training.micro_batch_tokens"
NEAR = 3  # settings by which a state may differ to be spoken of


def run_settings(sections: dict[str, Any], tokens: Path, **facts: str) -> Settings:
    """All that decides what a run makes; `facts` are what the machine makes of the params."""
    return settings_of(sections, CODE, tokens, torch=str(torch.__version__), **facts)


def training_of(settings: Settings) -> TrainingParams:
    """The section `training` of settings."""
    return TrainingParams.model_validate(settings["training"])


@dataclass(frozen=True)
class Candidate:
    """A waiting state and what keeps a run from going on from it."""

    state: State
    differs: dict[str, tuple[Any, Any]]
    hindrances: dict[str, str]  # by key, in words

    @property
    def moves(self) -> bool:
        """Whether the run of its settings is given up for this one: it is unfinished, and loses nothing thereby."""
        return not self.state.finished and not self.state.pinned and ROUNDING not in self.differs

    @property
    def is_near(self) -> bool:
        """Whether a person who changed params would expect to go on from it, and so wants to know why not."""
        return (not self.state.finished and len(self.hindrances) <= NEAR) or self.hindrances.keys() <= RATES


def state_to_go_on(work: Path, folder: Path, settings: Settings, run: Run) -> TrainingState:
    """The state from which this run goes on, its weights and moments in `run`: a new one if none waits.

    Args:
        work: where the working folders of all runs are.
        folder: that of this run, locked; its settings.json is written.
        settings: see `run_settings`.
        run: before its first update.

    Raises:
        ParamsError: a finished run was made longer, which its schedule does not allow without a word.
    """
    names = [folder.name, *take_over(work, folder, settings)]
    state = load_state(folder, run.model, run.optimizer) or TrainingState(steps_before=run.steps_before)
    own = State.read(folder)
    _say_damaged(own)
    before = own.settings
    if state.update and before and before != settings:
        _change(state, before, settings, run, names)
        for _ in range(2):  # the state before this one, too, must be one with these settings
            save_state(folder, state, run.model, run.optimizer)
    write_settings(folder, settings)
    return state


def _change(state: TrainingState, before: Settings, now: Settings, run: Run, names: list[str]) -> None:
    """Make the state one of these settings, and say what has changed and what it lacks."""
    old, new = training_of(before), training_of(now)
    sentences = [min(one.validation_bleu_sentences, len(run.valid_sentences)) for one in (old, new)]
    same_bleu = sentences[0] == sentences[1] and before["bleu_tokenizer"] == now["bleu_tokenizer"]
    state.differs = lacking = carry_over(state, old, new, same_bleu, run.shape.dropout)
    changed = "; ".join(in_words(key, *values) for key, values in differences(before, now).items())
    log.info("going on from update %d with %s", state.update, changed)
    if lacking:
        log.warning(
            "warning: not as in an uninterrupted training with these params: %s. To train anew: "
            "python -m flows.states --remove %s",
            "; ".join(lacking),
            " ".join(names),
        )


def take_over(work: Path, folder: Path, settings: Settings) -> list[str]:
    """Where `folder` has no state, bring the one below `work` that this run may go on from, with its settings.json.

    Returns:
        The name of the state that was taken, where it stays as well.
    """
    if any((folder / name).exists() for name in (STATE_FILE, PREVIOUS_FILE)):
        return []
    beside = [one for one in states_below(work) if one.folder != folder]
    for state in beside:
        _say_damaged(state)
    others = [one for one in beside if one.settings and one.update]
    candidates = [_judged(one, settings) for one in others]
    for found in sorted((one for one in candidates if not one.hindrances), key=lambda one: -(one.state.update or 0)):
        if _bring(found, folder, training_of(settings).updates):
            return [] if found.moves else [found.state.folder.name]
    for one in candidates:
        _check_extension(one, settings)
    if near := [one for one in candidates if one.hindrances and one.is_near]:
        nearest = min(near, key=lambda one: (len(one.hindrances), one.state.finished, -one.state.used))
        state, reasons = nearest.state, "; ".join(nearest.hindrances.values())
        which = f"the state {state.folder.name} at update {state.update} of {state.updates} stays"
        log.info("not resumed: %s (%s)", reasons, which)
    return []


def _say_damaged(state: State) -> None:
    for name in state.damaged:
        log.warning(
            "warning: %s is damaged, or of an older version: only a training with its state's very params goes on",
            state.folder / name,
        )


def _judged(state: State, settings: Settings) -> Candidate:
    """What keeps the run of these settings from going on from the state, in words."""
    differs = differences(state.settings, settings)
    deciding = {key: values for key, values in differs.items() if key not in NEUTRAL | RATES | {ROUNDING}}
    if ROUNDING in differs and state.finished:
        deciding[ROUNDING] = differs[ROUNDING]
    rates = {key: values for key, values in differs.items() if key in RATES}
    if rates and not _rates_are_the_same(state, settings):
        deciding |= rates
    return Candidate(state, differs, {key: in_words(key, *values) for key, values in deciding.items()})


def _rates_are_the_same(state: State, settings: Settings) -> bool:
    now, d_model = training_of(settings), settings["model"]["d_model"]
    try:
        before = training_of(state.settings)
    except ValueError:  # of another version of the code
        return False
    assert state.update is not None
    return state.update <= now.updates and same_rates(state.update, d_model, before, now)


def _check_extension(candidate: Candidate, settings: Settings) -> None:
    """A finished run that is made longer must not begin anew without a word.

    Raises:
        ParamsError: its schedule falls to the last update, and nothing says how to go on.
    """
    state, now = candidate.state, training_of(settings)
    done = state.updates if state.finished and state.update == state.updates else None
    only = candidate.differs.keys() <= NEUTRAL | {"training.updates"}
    if done and only and now.updates > done and now.rewarm_after is None:
        raise ParamsError(
            f"training.updates {done} → {now.updates}: the finished training of {done} updates can't be made longer "
            f"as if it had been so from the start, since with schedule: {now.schedule} its rates lead to the last "
            f"update (inverse_sqrt's do not). training.rewarm_after: {done} goes on from it and warms up again, "
            "rewarm_after: 0 trains anew from the first update"
        )


def _bring(candidate: Candidate, folder: Path, updates: int) -> bool:
    """Move the files of a state, or link them, the state itself last; False where a process uses it."""
    source, move = candidate.state.folder, candidate.moves
    last = [source / SETTINGS_FILE, source / PREVIOUS_FILE, source / STATE_FILE]
    left = (LOCK_FILE, PIN_FILE, PROGRESS_FILE)
    with locked(source / LOCK_FILE, wait=False) as free:
        if not free:
            log.info("not resumed: the state %s is in use by another process", source.name)
            return False
        files = [path for path in files_below(source) if path.name not in left and path not in last]
        for path in [*files, *(one for one in last if one.exists())]:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            shutil.move(path, target) if move else link_or_copy(path, target)
        write_progress(folder, candidate.state.update or 0, updates, finished=False)
        if move:
            shutil.rmtree(source)
    return True
