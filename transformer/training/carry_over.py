"""A state under other params: what it holds of a run that had these params from its first update, and what it lacks.

No update differs (`transformer.training.waiting` sees to that). What is validated, kept and shown may: what there is
of it is brought to the new grid, and the rest is named.
"""

from dataclasses import replace

from transformer.model.checkpoints import Checkpoint, kept
from transformer.params import TrainingParams
from transformer.relations import kept_updates
from transformer.training.resume import TrainingState

SHOWN = 4  # updates in a sentence

Row = dict[str, float]


def carry_over(
    state: TrainingState, before: TrainingParams, now: TrainingParams, same_bleu: bool, dropout: float
) -> list[str]:
    """Make the state that of a run with the params `now`, as far as can be.

    Args:
        state: is changed.
        before: the params with which it was saved.
        now: those of the run that goes on.
        same_bleu: whether both validate the same sentences by the same BLEU.
        dropout: of the model.

    Returns:
        What an uninterrupted run with `now` would have otherwise, each in a few words.
    """
    ended = state.ending
    rows = state.validations if ended else state.validation_curve
    written = _all_checkpoints(state)
    state.ending = None
    state.validation_curve = [row for row in rows if row["update"] % now.validate_every == 0]
    state.checkpoints = kept(_on_grid(written, now), now.keep_last)
    lacking = _rows_that_lack(state, now, same_bleu) + _checkpoints_that_lack(state, now) + _early_stop(state, now)
    if before.micro_batch_tokens != now.micro_batch_tokens:
        effect = "drew other masks of dropout and rounded sums otherwise" if dropout else "rounded sums otherwise"
        micro = f"micro_batch_tokens {before.micro_batch_tokens} → {now.micro_batch_tokens}"
        state.mixed.append(f"{micro}: the updates to {state.update} {effect}")
    return [*lacking, *state.mixed]


def stops_early(rows: list[Row], patience: int | None) -> bool:
    """Whether patience has run out after these validations."""
    losses = [row["loss"] for row in rows]
    return patience is not None and bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


def _all_checkpoints(state: TrainingState) -> list[Checkpoint]:
    """Those of the endless run, and that of the end; where both are of one update, the one that was validated."""
    if state.ending is None:
        return state.checkpoints
    end = state.ending.checkpoint
    by_clock = next((one.scheduled for one in state.checkpoints if one.update == end.update), False)
    return [*(one for one in state.checkpoints if one.update != end.update), replace(end, scheduled=by_clock)]


def _on_grid(written: list[Checkpoint], now: TrainingParams) -> list[Checkpoint]:
    """The checkpoints as the run with these params would have scheduled and validated them."""
    every = now.checkpoint_every_updates
    by_clock = now.checkpoint_every_minutes is not None
    found = []
    for one in written:
        clock = by_clock and one.scheduled and one.minutes is not None
        loss = one.valid_loss if one.update % now.validate_every == 0 else None
        scheduled = clock or bool(every and one.update % every == 0)
        minutes = one.minutes if by_clock else None
        found.append(replace(one, scheduled=scheduled, valid_loss=loss, minutes=minutes))
    return found


def _rows_that_lack(state: TrainingState, now: TrainingParams, same_bleu: bool) -> list[str]:
    there = {row["update"] for row in state.validation_curve}
    # That of the state's own update is made up for: its weights are here.
    missing = [
        update for update in range(now.validate_every, state.update, now.validate_every) if update not in there
    ]
    told = [f"validation.csv lacks {_updates(missing)}"] if missing else []
    if not same_bleu:
        for row in state.validation_curve:
            row.pop("bleu", None)
    bare = [int(row["update"]) for row in state.validation_curve if "bleu" not in row]
    if bare and now.validation_bleu_sentences:
        told.append(f"validation.csv has no BLEU of {_updates(bare)}")
    return told


def _checkpoints_that_lack(state: TrainingState, now: TrainingParams) -> list[str]:
    """Those that the end would have kept, and the best one."""
    there, told = {one.update for one in state.checkpoints}, []
    if every := now.checkpoint_every_updates:
        wanted = kept_updates(now.updates, every, now.keep_last)
        missing = [update for update in wanted if update < state.update and update not in there]
        told += [f"models/checkpoints lacks {_updates(missing)}"] if missing else []
    if state.validation_curve:
        best = min(state.validation_curve, key=lambda row: row["loss"])
        if best["update"] < state.update and best["update"] not in there:
            told.append(f"models/checkpoints lacks the best one so far, of update {best['update']:.0f}")
    return told


def _early_stop(state: TrainingState, now: TrainingParams) -> list[str]:
    rows = state.validation_curve
    for count, row in enumerate(rows, 1):
        if row["update"] < state.update and stops_early(rows[:count], now.early_stopping_patience):
            return [
                f"early_stopping_patience {now.early_stopping_patience} would have ended it at {row['update']:.0f}"
            ]
    return []


def _updates(updates: list[int]) -> str:
    shown = ", ".join(map(str, updates[:SHOWN]))
    return f"update{'s' * (len(updates) > 1)} {shown}" + (
        f" and {len(updates) - SHOWN} more" * (len(updates) > SHOWN)
    )
