"""What `download` hands to `prepare`: which files in the raw folder hold which side of which split."""

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from transformer.errors import DataError
from transformer.files import write_json

PARTS_FILE = "parts.json"
Split = Literal["train", "valid", "test"]
Format = Literal["lines", "sgm", "tsv", "jsonl", "parquet", "tmx", "xliff", "po", "wmt-xml", "catalogue"]
BlankLines = Literal["keep", "skip"]


def _unless_given() -> Any:
    """None, and left out of the list of parts while it is None."""
    return Field(default=None, exclude_if=lambda value: value is None)


class Part(BaseModel):
    """One aligned piece of a corpus.

    `source` and `target` are paths relative to the raw folder; formats that hold both sides in one file name the same
    path twice. Whether a file is compressed is told by its content. `split` is None where the corpus has no official
    split: `prepare` then assigns each pair by a stable hash of its source.
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
    # Which of a file's sides is meant. tsv: a column's number from 0 or, with `header`, its name; parquet, jsonl: the
    # name of a column or key; tmx, xliff, wmt-xml: the language as the file spells it; po: msgid or msgstr;
    # catalogue: a pattern of zip members
    source_field: str = ""
    target_field: str = ""
    header: bool | None = _unless_given()  # tsv: the first line names the columns
    width: int | None = _unless_given()  # tsv: how many columns each line has; None: up to the last one that is used
    blank_lines: BlankLines | None = _unless_given()  # lines, tsv, jsonl; None: kept in lines, else an error
    # The user's own files, of which `source` and `target` are copies; None for a published corpus.
    source_from: str | None = _unless_given()
    target_from: str | None = _unless_given()


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
