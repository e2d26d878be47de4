"""The `languages` section of params.yaml."""

from pydantic import Field

from transformer.section import Section


class LanguageParams(Section):
    """The direction of translation, as the corpus spells its languages."""

    source: str = Field(min_length=2)
    target: str = Field(min_length=2)
