"""What the sections of params.yaml require of each other, checked when they are read: a training may take days."""

from itertools import islice, pairwise
from math import ceil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformer.params import Params, TrainingParams

LOOKED_AT = 1000  # of the updates at which a training may stop early
TOLERANCE = 0.99  # of `minutes_apart`: a checkpoint is written after the first update past the mark


def check_relations(params: "Params") -> None:
    """Refuse what would fail only after hours of work.

    Raises:
        ValueError: one line that begins with the key.
    """
    _check_parent(params)
    _check_micro_batches(params)
    _check_saving(params.training)
    _check_kept(params)
    if params.averaging.rule == "minutes":
        _check_minutes(params)
    elif params.training.checkpoint_every_minutes is None:  # else the clock decides where checkpoints are
        for end in _ends(params.training):
            _check_checkpoints_of(params, end)


def _check_parent(params: "Params") -> None:
    """What only makes sense with a model to go on from, or with a vocabulary that is given."""
    training, tokenization = params.training, params.tokenization
    parent = training.start_from
    if parent is not None and not parent.strip():
        raise ValueError(
            f"training.start_from = {parent!r}: name a model folder, an MLflow version or a git revision"
        )
    if tokenization.model is not None and not tokenization.model.strip():
        raise ValueError(f"tokenization.model = {tokenization.model!r}: name a SentencePiece model, or null")
    if parent is None:
        for key, value in {
            "training.start_optimizer": training.start_optimizer if training.start_optimizer != "fresh" else None,
            "training.forgetting_limit": training.forgetting_limit,
            "preparation.mix": params.preparation.mix or None,
        }.items():
            if value is not None:
                raise ValueError(f"{key} = {value}: it is about a parent, and training.start_from names none")
    elif tokenization.model is not None:
        raise ValueError(
            f"tokenization.model = {tokenization.model!r}: training.start_from brings the vocabulary of its parent; "
            "set one of the two to null"
        )
    if tokenization.new_pieces and parent is None and tokenization.model is None:
        raise ValueError(
            f"tokenization.new_pieces = {tokenization.new_pieces}: there is no vocabulary to add them to; give one "
            "with tokenization.model or training.start_from, or raise vocabulary_size"
        )


def _check_micro_batches(params: "Params") -> None:
    tokens, longest = params.training.micro_batch_tokens, params.model.max_positions
    if tokens is not None and tokens < longest:
        raise ValueError(
            f"training.micro_batch_tokens = {tokens}: a sentence may have model.max_positions = {longest} tokens; "
            "raise it, or lower max_positions"
        )


def _check_saving(training: "TrainingParams") -> None:
    if training.checkpoint_every_updates is None and training.checkpoint_every_minutes is None:
        raise ValueError(
            "training.checkpoint_every_updates = None: without it and checkpoint_every_minutes an interruption loses "
            "the whole training; set one of them"
        )


def _check_kept(params: "Params") -> None:
    count, keep = params.averaging.count, params.training.keep_last
    if count > keep:
        raise ValueError(
            f"averaging.count = {count}: training.keep_last = {keep} keeps too few checkpoints; "
            f"lower count to {keep} or raise keep_last to {count}"
        )


def _check_minutes(params: "Params") -> None:
    """The rule `minutes` looks back from the last checkpoint, which the end writes, whatever the clock says."""
    training, averaging = params.training, params.averaging
    every = training.checkpoint_every_minutes
    if every is None:
        raise ValueError(
            "averaging.rule = 'minutes': it needs training.checkpoint_every_minutes to be set; "
            f"did you mean 'last', with checkpoint_every_updates = {training.checkpoint_every_updates}?"
        )
    if training.checkpoint_every_updates is not None:
        raise ValueError(
            f"averaging.rule = 'minutes': training.checkpoint_every_updates = {training.checkpoint_every_updates} "
            "writes checkpoints that take the places of those by time; set it to null"
        )
    stride = ceil(averaging.minutes_apart * TOLERANCE / every)
    needed = 2 + (averaging.count - 1) * stride if averaging.count > 1 else 1
    if training.keep_last < needed:
        raise ValueError(
            f"training.keep_last = {training.keep_last}: averaging.count = {averaging.count} checkpoints "
            f"{averaging.minutes_apart:g} minutes apart, written every {every:g} minutes and at the end, need at "
            f"least {needed}"
        )


def _ends(training: "TrainingParams") -> list[int]:
    """The updates at which a training can end: the last one, or a validation after which patience runs out."""
    ends = [training.updates]
    if (patience := training.early_stopping_patience) is not None:
        every = training.validate_every
        ends += islice(range((patience + 1) * every, training.updates, every), LOOKED_AT)
    return ends


def _check_checkpoints_of(params: "Params", end: int) -> None:
    """Does a training that ends at this update leave the checkpoints that the average asks for?"""
    training, averaging = params.training, params.averaging
    if averaging.count == 1:
        return
    every, validate = training.checkpoint_every_updates, training.validate_every
    assert every is not None
    found = _kept(end, every, training.keep_last)
    which = f"training.updates = {end}" if end == training.updates else f"a training that stops early at update {end}"
    if averaging.rule == "best":
        found = [update for update in found if update % validate == 0 or update == training.updates]
        which += f", validate_every = {validate}"
    chosen = found[-averaging.count :]
    if len(chosen) < averaging.count:
        raise ValueError(
            f"averaging.count = {averaging.count}: {which}, checkpoint_every_updates = {every} and keep_last = "
            f"{training.keep_last} leave {len(chosen)} checkpoints for the rule {averaging.rule!r}"
        )
    apart = min(later - earlier for earlier, later in pairwise(chosen))
    if averaging.rule == "best":  # any validation may turn out to be one of the best
        apart = min(validate, end % validate or validate)
    if apart < averaging.min_updates_apart:
        raise ValueError(
            f"averaging.min_updates_apart = {averaging.min_updates_apart}: {which}, checkpoint_every_updates = "
            f"{every} give checkpoints {apart} updates apart; lower it, or change where they are written"
        )


def _kept(end: int, every: int, keep_last: int) -> list[int]:
    """The updates of the last `keep_last` scheduled checkpoints, in their order."""
    before = range(every, end, every)
    return [*before[max(0, len(before) - (keep_last - 1)) :], end]
