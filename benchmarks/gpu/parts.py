"""The parts of `benchmarks/gpu.sh`, and what each leaves behind."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from transformer.files import write_json

DEADLINE = "PART_DEADLINE"  # environment variable: by time.monotonic(), when a part will be cut


@dataclass(frozen=True)
class Part:
    """A module of this package with a function `measure`, and its seconds: of all 470 at most, to end inside 480."""

    name: str
    seconds: int


PARTS = (
    Part("machine", 10),
    Part("correctness", 100),
    Part("training", 135),
    Part("operators", 20),
    Part("decoding", 40),
    Part("multi30k", 165),
)
NAMES = [part.name for part in PARTS]


class RefusedError(Exception):
    """A wrong setting, told in one line."""


def chosen_parts(text: str) -> list[Part]:
    """The parts named or numbered in `text`, separated by commas or blanks, in their own order; all if it is empty.

    Raises:
        RefusedError: there is no such part.
    """
    words = text.replace(",", " ").split()
    known = {**{part.name: part for part in PARTS}, **{str(number): part for number, part in enumerate(PARTS, 1)}}
    if unknown := [word for word in words if word not in known]:
        there = ", ".join(f"{number} {name}" for number, name in enumerate(NAMES, 1))
        raise RefusedError(f"PARTS: {unknown[0]!r} is not a part; there are {there}")
    wanted = {known[word].name for word in words} or set(NAMES)
    return [part for part in PARTS if part.name in wanted]


def result_file(folder: Path, name: str) -> Path:
    """Where a part's figures are."""
    return folder / f"{NAMES.index(name) + 1}-{name}.json"


@dataclass(frozen=True)
class Row:
    """A line of the table; `met` tells whether the figure reaches the aim, where both are known."""

    what: str
    figure: str
    aim: str = ""
    met: bool | None = None


class Result:
    """A part's file, written anew with every figure, so that a cut loses nothing that was measured."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self._path, self._content = path, content

    @classmethod
    def read(cls, path: Path) -> "Result":
        """The file as it stands."""
        return cls(path, json.loads(path.read_text(encoding="utf-8")))

    def record(self, rows: Sequence[Row] | None = None, **figures: Any) -> None:
        """Add figures, or replace those of the same name; `rows` replaces the part's lines of the table."""
        if rows is not None:
            self._content["rows"] = [asdict(row) for row in rows]
        self._content["figures"].update(figures)
        self.write()

    def end(self, status: str, error: str | None = None) -> None:
        """Set how the part ended: done, failed or cut."""
        self._content.update(status=status, error=error)
        self.write()

    def write(self) -> None:
        """Replace the file."""
        write_json(self._path, self._content)

    @property
    def status(self) -> str:
        """How the part ended; "running" as long as it has not said so itself."""
        return str(self._content["status"])

    @property
    def content(self) -> dict[str, Any]:
        """All of it."""
        return self._content
