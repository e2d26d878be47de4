"""The `evaluation` section of params.yaml."""

from pydantic import Field

from transformer.section import Section


class EvaluationParams(Section):
    """What is scored and how finely it is broken down."""

    test_sets: list[str] = Field(min_length=1)  # origins in data/corpus/test.parquet; the first is the headline
    bootstrap_samples: int = Field(ge=100)  # of the 95 % interval
    length_buckets: list[int] = Field(min_length=1)  # upper bounds of source lengths in words, ascending
    attention_sentences: int = Field(ge=0)  # of the headline test set, whose attention is drawn
