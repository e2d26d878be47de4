"""Which checkpoints are averaged (paper, section 6.1: the last 5 of base, the last 20 of big, 10 minutes apart)."""

from itertools import pairwise

from transformer.averaging.params import AveragingParams
from transformer.errors import ParamsError
from transformer.training.checkpoints import Checkpoint


def select(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """The checkpoints that the rule picks, in order of update.

    Raises:
        ParamsError: there are not enough, or two of them are near-duplicates.
    """
    chosen = {"last": _last, "best": _best, "minutes": _minutes}[params.rule](params, checkpoints)
    if len(chosen) < params.count:
        raise ParamsError(
            f"averaging.count = {params.count}, but the rule {params.rule} finds only {len(chosen)} of "
            f"{len(checkpoints)} checkpoints: lower it, or raise training.keep_last"
        )
    chosen = sorted(chosen, key=lambda one: one.update)
    for earlier, later in pairwise(chosen):
        apart = later.update - earlier.update
        if apart < params.min_updates_apart:
            raise ParamsError(
                f"checkpoints {earlier.file} and {later.file} are {apart} updates apart, less than "
                f"averaging.min_updates_apart = {params.min_updates_apart}: averaging them changes nothing"
            )
    return chosen


def _last(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    return [one for one in checkpoints if one.scheduled][-params.count :]


def _best(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    validated = [(one.valid_loss, one.update, one) for one in checkpoints if one.valid_loss is not None]
    return [one for _, _, one in sorted(validated)[: params.count]]


def _minutes(params: AveragingParams, checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """From the last one backwards, each at least `minutes_apart` before the one chosen before it."""
    chosen: list[Checkpoint] = []
    previous = float("inf")
    for one in reversed([one for one in checkpoints if one.scheduled]):
        if one.minutes is None:
            raise ParamsError("averaging.rule = minutes needs training.checkpoint_every_minutes to be set")
        # A checkpoint falls due at the end of the update that passes the mark, so it may come a moment early.
        if previous - one.minutes >= params.minutes_apart * 0.99 and len(chosen) < params.count:
            chosen.append(one)
            previous = one.minutes
    return chosen
