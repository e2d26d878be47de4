"""What the sections of params.yaml require of each other, checked when they are read: a training may take days."""

from collections.abc import Iterable
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
    _check_rewarming(params.training)
    _check_export(params)
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


def _check_rewarming(training: "TrainingParams") -> None:
    if training.rewarm_after is not None and training.rewarm_after >= training.updates:
        raise ValueError(
            f"training.rewarm_after = {training.rewarm_after}: it must come before the last of training.updates = "
            f"{training.updates}; null where nothing is to be extended"
        )


def _check_export(params: "Params") -> None:
    model, formats = params.model, [to for to in params.export.formats if to != "onnx"]
    if formats and model.d_k != model.d_v:
        raise ValueError(
            f"model.key_size = {model.key_size}: {formats[0]} has no keys of another size than d_model / heads = "
            f"{model.d_v}; leave it out of export.formats"
        )


def _check_kept(params: "Params") -> None:
    count, keep, least = params.averaging.count, params.training.keep_last, params.averaging.at_least
    if least > count:
        raise ValueError(f"averaging.at_least = {least}: averaging.count = {count} averages no more than that")
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
    """Does a training that ends at this update leave as many checkpoints as the average needs?"""
    least, found = params.averaging.at_least, averaged_of(params, end)
    if found < least:
        raise ValueError(f"averaging.at_least = {least}: {_leaving(params, end, found)}")


def remarks(params: "Params") -> list[str]:
    """What works, but perhaps not as meant."""
    training, averaging = params.training, params.averaging
    if averaging.rule == "minutes" or training.checkpoint_every_minutes is not None:
        return []
    found = averaged_of(params, training.updates)
    if found >= averaging.count:
        return []
    return [f"averaging.count = {averaging.count}, at most: {_leaving(params, training.updates, found)}"]


def _leaving(params: "Params", end: int, found: int) -> str:
    training, averaging = params.training, params.averaging
    which = f"training.updates = {end}" if end == training.updates else f"a training that stops early at update {end}"
    if averaging.rule == "best":
        which += f", validate_every = {training.validate_every}"
    return (
        f"{which}, checkpoint_every_updates = {training.checkpoint_every_updates} and keep_last = "
        f"{training.keep_last} leave {found} checkpoint{'s' * (found != 1)} for the rule {averaging.rule!r}, "
        f"min_updates_apart = {averaging.min_updates_apart} apart"
    )


def averaged_of(params: "Params", end: int) -> int:
    """How many checkpoints, for certain, are averaged after a training that ends at this update."""
    training, averaging = params.training, params.averaging
    every, validate = training.checkpoint_every_updates, training.validate_every
    assert every is not None
    found = kept_updates(end, every, training.keep_last)
    if averaging.rule != "best":
        return len(far_apart(reversed(found), averaging.count, averaging.min_updates_apart))
    found = [update for update in found if update % validate == 0 or update == end]
    # Any of them may be the best one, which keeps its neighbours out.
    spacing = min((later - earlier for earlier, later in pairwise(found)), default=1)
    neighbours = ceil(averaging.min_updates_apart / spacing) - 1
    return min(averaging.count, ceil(len(found) / (2 * neighbours + 1)))


def far_apart(updates: Iterable[int], count: int, apart: int) -> list[int]:
    """The first `count` of these updates, of which no two are closer than `apart`: the later of two is left out."""
    chosen: list[int] = []
    for update in updates:
        if len(chosen) < count and all(abs(update - one) >= apart for one in chosen):
            chosen.append(update)
    return chosen


def kept_updates(end: int, every: int, keep_last: int) -> list[int]:
    """The updates of the last `keep_last` scheduled checkpoints, in their order."""
    before = range(every, end, every)
    return [*before[max(0, len(before) - (keep_last - 1)) :], end]
