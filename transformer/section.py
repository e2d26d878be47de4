"""What every section of params.yaml has in common; a model folder's JSON files are sections too."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from transformer.errors import DataError

Location = tuple[int | str, ...]  # where in nested sections


class Section(BaseModel):
    """A params section: immutable, unknown keys forbidden, no silent conversion of types, numbers finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The section that a model folder's JSON file holds.

        Raises:
            DataError: the file is missing or malformed.
        """
        try:
            return cls.model_validate(json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise DataError(
                f"{path} is missing: {path.parent} is not a complete model folder; run `make repro`"
            ) from None
        except (UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
            raise DataError(f"{path} is malformed: {' '.join(str(error).split())}") from None


def in_words(error: ValidationError, known_keys: Callable[[Location], str], within: str = "") -> str:
    """The first problem as one line that names the key, the value and what is allowed.

    `known_keys` tells, for the place of an unknown key, what to write there; `within` is put before the key.
    """
    problems = error.errors(include_url=False)
    # A misspelt key also leaves the right one missing: name the one that was written.
    first = next((problem for problem in problems if problem["type"] == "extra_forbidden"), problems[0])
    key = ".".join([within] * bool(within) + [str(step) for step in first["loc"] if step != "[key]"])
    if first["type"] == "extra_forbidden":
        return f"{key} is not a key; {known_keys(first['loc'])}"
    if first["type"] == "missing":
        return f"{key} is missing"
    reason = first["msg"].removeprefix("Value error, ")
    value = "" if isinstance(first["input"], dict | Section) else f" = {first['input']!r}"
    return f"{key}{value}: {reason[0].lower()}{reason[1:]}"
