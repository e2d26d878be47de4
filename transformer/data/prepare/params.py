"""The `preparation` section of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from transformer.section import Section


class PreparationParams(Section):
    """Filters and splits; a filter's comment names the pairs it removes."""

    max_words: int = Field(ge=1)  # longer than this on either side, by white space
    max_length_ratio: float = Field(ge=1)  # the longer side over the shorter, in words and also in characters
    near_duplicate_jaccard: float = Field(gt=0, le=1)  # training sources this similar to a held-out source
    valid_share: float = Field(gt=0, lt=0.5)  # of the sources of a corpus without official splits
    test_share: float = Field(gt=0, lt=0.5)
    batch_pairs: int = Field(ge=1)  # pairs of a chunk: what a process holds, and an interruption loses, at a time
    executor: Literal["local", "dask"]  # of the chunks of prepare and tokenize
    scheduler: str | None  # address of the Dask scheduler

    @model_validator(mode="after")
    def _dask_has_a_scheduler(self) -> Self:
        if self.executor == "dask" and self.scheduler is None:
            raise ValueError("executor: dask needs the scheduler's address, for instance tcp://scheduler:8786")
        return self
