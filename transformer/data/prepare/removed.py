"""Examples of what each filter removed, so that one look shows whether it eats good pairs."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from heapq import nsmallest
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow

from transformer.data.prepare.splits import Hashes
from transformer.files import write_text

EXAMPLES = 20  # for each filter and part
CHARACTERS = 300  # of a text that is shown


class Example(NamedTuple):
    """A removed pair; the hash of the pair chooses, so that the examples are an even sample of all removed ones."""

    pair_hash: int
    source: str
    target: str


def sample(examples: Iterable[Example]) -> list[Example]:
    """Those of at most EXAMPLES pairs with the smallest hashes, equal pairs once."""
    return nsmallest(EXAMPLES, {one.pair_hash: one for one in examples}.values())


class Samples:
    """Examples for each part and reason, collected chunk by chunk in any order."""

    def __init__(self) -> None:
        self._found: defaultdict[tuple[str, str], list[Example]] = defaultdict(list)

    def add(self, part: str, reason: str, examples: Iterable[Example]) -> None:
        """Consider further pairs that were removed from a part for a reason."""
        self._found[part, reason] = sample([*self._found[part, reason], *examples])

    def add_rows(
        self, part: str, reason: str, hashes: Hashes, read: Callable[[pyarrow.Array], pyarrow.Table]
    ) -> None:
        """The same for n removed pairs in a file by their hashes; `read` gets those of the n rows that are needed."""
        found = self._found[part, reason]
        values, rows = np.unique(hashes, return_index=True)
        if len(found) == EXAMPLES:
            rows = rows[values < found[-1].pair_hash]
        rows = rows[:EXAMPLES]
        if len(rows):
            pairs = read(pyarrow.array(rows))
            columns = (pairs.column(side).to_pylist() for side in ("source", "target"))
            self.add(part, reason, map(Example, hashes[rows].tolist(), *columns))

    def write(self, folder: Path, reasons: Iterable[str]) -> None:
        """A file `<part>.tsv` for each part that lost pairs, in the order of `reasons`: filter, source, target."""
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.tsv"):
            stale.unlink()
        lines: defaultdict[str, list[str]] = defaultdict(list)
        for reason in reasons:
            for (part, why), examples in self._found.items():
                if why == reason:
                    lines[part] += [f"{reason}\t{_short(one.source)}\t{_short(one.target)}\n" for one in examples]
        for part, rows in lines.items():
            if rows:
                write_text(folder / f"{part}.tsv", "filter\tsource\ttarget\n" + "".join(rows))


def _short(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"
