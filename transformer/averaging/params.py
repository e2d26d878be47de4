"""The `averaging` section of params.yaml."""

from typing import Literal

from pydantic import Field

from transformer.section import Section


class AveragingParams(Section):
    """Which checkpoints become the model."""

    rule: Literal["last", "best", "minutes"]  # by update, by validation loss, or by time apart (the paper)
    count: int = Field(ge=1)
    minutes_apart: float = Field(gt=0)  # for the rule `minutes`
    min_updates_apart: int = Field(ge=1)  # closer checkpoints are near-duplicates and are refused
