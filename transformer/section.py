"""What every section of params.yaml has in common, and how a model folder's JSON files are read into one."""

import json
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError

from transformer.errors import DataError


class Section(BaseModel):
    """A params section: immutable, unknown keys forbidden, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

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
                f"{path} is missing: {path.parent} is no complete model folder; run `make repro`"
            ) from None
        except (UnicodeDecodeError, json.JSONDecodeError, ValidationError) as error:
            raise DataError(f"{path} is malformed: {' '.join(str(error).split())}") from None
