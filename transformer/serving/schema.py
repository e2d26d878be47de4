"""What `POST /translate` takes and gives; the names are those of `transformer translate --json`."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from transformer.decoding.translation import Details as Found
from transformer.decoding.translation import Translation as Made

MOST_LINES = 128
LONGEST_LINE = 2000  # characters
LARGEST_BODY = 1 << 18  # bytes
MOST_DETAILED = 32  # translations with details: each has a table of its tokens by those of the source

Line = Annotated[str, StringConstraints(max_length=LONGEST_LINE)]


class Asked(BaseModel):
    """Lines to be translated."""

    model_config = ConfigDict(extra="forbid", strict=True)

    lines: Annotated[list[Line], Field(min_length=1, max_length=MOST_LINES)]
    nbest: int = Field(
        default=1, ge=1, le=64, description="up to so many translations of a line, at most the model's beam"
    )
    details: bool = Field(default=False, description="tokens, their scores, and where attention was")


class Details(BaseModel):
    """Tokens with the end of sentence; for each of the translation's the weights of the source's."""

    source_tokens: list[str]
    tokens: list[str]
    token_log_probs: list[float]
    alignment: list[list[float]]


class Translation(BaseModel):
    """A translation; score is log P / length penalty."""

    text: str
    score: float
    log_prob: float
    cut: bool = Field(description="the text, or its source, was longer than the model takes")
    details: list[Details] | None = Field(default=None, description="one for each part of a line that was too long")


class Answer(BaseModel):
    """For each line its best translation, and all that were asked for, best first."""

    model: str = Field(description="SHA-256 of the model folder")
    translations: list[str]
    nbest: list[list[Translation]]


class Problem(BaseModel):
    """Why a request was refused, in one line."""

    detail: str


def written(made: Made) -> Translation:
    """A translation as it is answered."""
    parts = [one.translation for one in made.sentences] or [made]
    details = [_details(part.details) for part in parts if part.details]
    return Translation(
        text=made.text,
        score=round(made.score, 6),
        log_prob=round(made.log_prob, 6),
        cut=made.cut,
        details=details or None,
    )


def _details(found: Found) -> Details:
    return Details(
        source_tokens=found.source_tokens,
        tokens=found.tokens,
        token_log_probs=[round(one, 6) for one in found.token_log_probs],
        alignment=[[round(one, 4) for one in row] for row in found.alignment],
    )
