"""The `decoding` section of params.yaml, and its copy in the model folder."""

from pathlib import Path

from pydantic import Field

from transformer.section import Section

DECODING_FILE = "decoding.json"


class DecodingParams(Section):
    """Beam search as in section 6.1 of the paper."""

    beam: int = Field(ge=1, le=64)
    alpha: float = Field(ge=0)  # exponent of the length penalty ((5 + length) / 6) ** alpha
    max_extra_length: int = Field(ge=0)  # longest hypothesis = source tokens + this
    batch_tokens: int = Field(ge=1)  # padded source tokens translated at a time


def read_decoding(folder: Path) -> DecodingParams:
    """The settings that a model folder's scores were measured with.

    Raises:
        DataError: they are missing or malformed.
    """
    return DecodingParams.read(folder / DECODING_FILE)
