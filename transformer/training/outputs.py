"""What a finished training leaves: checkpoints with their index, curves, and the report of what it went through."""

import csv
import io
import logging
from itertools import pairwise
from pathlib import Path

from transformer.files import link_or_copy, write_json, write_text
from transformer.model.checkpoints import kept, write_index
from transformer.model.folder import ModelConfig, write_config
from transformer.params import LanguageParams
from transformer.training.resume import TrainingState
from transformer.training.run import Run

log = logging.getLogger(__name__)


def write_checkpoints(
    run: Run, state: TrainingState, languages: LanguageParams, written: Path, checkpoints: Path
) -> None:
    """Link or copy the kept checkpoints from the folder `written` to `checkpoints`, with their index and config.json.

    Raises:
        DataError: a checkpoint is not as it was written.
    """
    checkpoints.mkdir(parents=True, exist_ok=True)
    left = kept(state.written, run.settings.keep_last)
    for checkpoint in left:
        target = checkpoints / checkpoint.file
        target.unlink(missing_ok=True)
        link_or_copy(written / checkpoint.file, target)
    write_index(checkpoints, left)
    config = ModelConfig(languages=languages, vocabulary_size=run.vocabulary.size, model=run.shape)
    write_config(checkpoints, config)


def write_curves(run: Run, state: TrainingState, curves: Path) -> None:
    """Write training.csv, which follows from the losses of all updates, and validation.csv."""
    every, last = run.settings.log_every, run.settings.updates
    ends = [update for update in range(1, state.update + 1) if update % every == 0 or update == last]
    rows = [{"update": end, **interval(run, state, begin, end)} for begin, end in pairwise([0, *ends])]
    write_text(curves / "training.csv", _csv(rows))
    write_text(curves / "validation.csv", _csv(state.validations))


def interval(run: Run, state: TrainingState, begin: int, end: int | None = None) -> dict[str, float]:
    """The mean loss a token over the updates after `begin` to `end` (None: to the last), and the rate of the last."""
    losses = state.losses[begin:end]
    loss = sum(loss for loss, _ in losses) / sum(tokens for _, tokens in losses)
    return {"loss": loss, "learning_rate": run.learning_rate(end or state.update)}


def write_report(state: TrainingState, keep_last: int, report: Path) -> None:
    """Write what was trained; `differs` is there only where an uninterrupted training would have left other bytes."""
    numbers = {"updates": state.update, "epochs": state.epoch, "target_tokens": state.target_tokens}
    differs = [*state.differs, *_lost(state, keep_last)]
    write_json(report, numbers | ({"differs": differs} if differs else {}))


def _lost(state: TrainingState, keep_last: int) -> list[str]:
    """Which damaged checkpoints would be among the outputs; a training without damage has them in place of others."""
    whole = kept(sorted([*state.written, *state.lost], key=lambda one: one.update), keep_last)
    lost = [f"{one.file} was damaged and is missing" for one in whole if one in state.lost]
    for told in lost:
        log.warning("warning: not as in a training without damage: %s", told)
    return lost


def _csv(rows: list[dict[str, float]]) -> str:
    stream = io.StringIO()
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: round(value, 6) for name, value in row.items()} for row in rows)
    return stream.getvalue()
