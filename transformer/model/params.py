"""The `model` section of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from transformer.section import Section


class ModelParams(Section):
    """The network's shape; names as in section 3 of the paper."""

    d_model: int = Field(ge=2)
    d_ff: int = Field(ge=1)
    heads: int = Field(ge=1)
    encoder_layers: int = Field(ge=1)
    decoder_layers: int = Field(ge=1)
    dropout: float = Field(ge=0, lt=1)
    positions: Literal["sinusoidal", "learned"]
    norm: Literal["post", "pre"]
    max_positions: int = Field(ge=8)  # longest sequence in tokens, end-of-sentence included

    @property
    def head_size(self) -> int:
        """d_k = d_v of each head."""
        return self.d_model // self.heads

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> Self:
        if self.d_model % (2 * self.heads):
            raise ValueError(f"d_model must be a multiple of 2 x heads = {2 * self.heads}, not {self.d_model}")
        return self
