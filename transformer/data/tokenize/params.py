"""The `tokenization` section of params.yaml."""

from pydantic import Field

from transformer.section import Section


class TokenizationParams(Section):
    """The byte-pair vocabulary that both languages share."""

    vocabulary_size: int = Field(ge=261)  # pieces, special ids and byte pieces included
    character_coverage: float = Field(gt=0.9, le=1)  # share of characters with a piece; rarer ones become bytes
    training_pairs: int = Field(ge=1)  # pairs of the training split that the vocabulary is learned on, at most
