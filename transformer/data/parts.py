"""What `download` hands to `prepare`: which files in the raw folder hold which side of which split."""

import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from transformer.errors import DataError
from transformer.files import write_json

PARTS_FILE = "parts.json"
Split = Literal["train", "valid", "test"]
Format = Literal["lines", "sgm", "tsv", "parquet", "catalogue"]


class Part(BaseModel):
    """One aligned piece of a corpus.

    `source` and `target` are paths relative to the raw folder; formats that hold both sides in one file
    (tsv, parquet, catalogue) name the same path twice. A `.gz` suffix means gzip. `split` is None where the
    corpus has no official split: `prepare` then assigns each pair by a stable hash of its source.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus: str
    name: str  # the origin of its lines, and for a test split the name of the test set
    split: Split | None
    format: Format
    source: str
    target: str
    source_language: str
    target_language: str
    # tsv: column numbers from 0, parquet: column names; catalogue: zip member pattern with {language}
    source_field: str = ""
    target_field: str = ""


def write_parts(folder: Path, parts: list[Part]) -> None:
    """Record `parts` in `folder`; holds no times, so equal downloads give equal bytes."""
    write_json(folder / PARTS_FILE, [part.model_dump() for part in parts])


def read_parts(folder: Path) -> list[Part]:
    """The parts that `download` left in `folder`.

    Raises:
        DataError: the list is missing or malformed.
    """
    path = folder / PARTS_FILE
    try:
        return [Part.model_validate(entry) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except FileNotFoundError:
        raise DataError(f"{path} is missing: run the download stage first (dvc repro download)") from None
    except (ValueError, TypeError, RecursionError) as error:  # ValueError: not UTF-8, not JSON, not parts
        raise DataError(f"{path} is malformed: {str(error).splitlines()[0]}") from None
