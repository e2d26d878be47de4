"""The `decoding` section of params.yaml."""

from pydantic import Field

from transformer.section import Section


class DecodingParams(Section):
    """Beam search as in section 6.1 of the paper."""

    beam: int = Field(ge=1, le=64)
    alpha: float = Field(ge=0)  # exponent of the length penalty ((5 + length) / 6) ** alpha
    max_extra_length: int = Field(ge=0)  # longest hypothesis = source tokens + this
    batch_tokens: int = Field(ge=1)  # padded source tokens translated at a time


PAPER_DECODING = DecodingParams(beam=4, alpha=0.6, max_extra_length=50, batch_tokens=4096)
