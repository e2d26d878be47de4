"""The first chunk task of `prepare`: clean and filter pairs, and hash them to find duplicates."""

import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow

from transformer.chunks import read_table
from transformer.data.cleaning import clean_text, fold_text, is_writable, resolve_entities
from transformer.data.parts import Part, Split
from transformer.data.prepare.filters import PairFilter
from transformer.data.prepare.readers.part import MARKUP
from transformer.data.prepare.removed import Example, sample
from transformer.data.prepare.splits import FURTHER, Hashes, pairs_of, text_hash
from transformer.params import PreparationParams


class RawChunk(NamedTuple):
    """Consecutive pairs of a part as its files have them."""

    part: Part
    pairs: pyarrow.Table  # source, target, origin, and FURTHER where there are such references


class CleanChunk(NamedTuple):
    """What `clean_chunk` made of a chunk; the table itself stays in its file."""

    path: Path
    part: str
    split: Split | None
    read: int  # pairs
    removed: dict[str, int]  # reason -> pairs
    examples: dict[str, list[Example]]  # reason -> some of them
    unwritable: int  # references of an official split that no model can write
    rows: int
    has_further: bool

    @classmethod
    def open(cls, path: Path) -> "CleanChunk":
        """Read all but the columns."""
        table = read_table(path, [])
        told = json.loads(table.schema.metadata[b"chunk"])
        told["examples"] = {reason: [Example(*one) for one in some] for reason, some in told["examples"].items()}
        return cls(path=path, rows=table.num_rows, **told)

    def hashes(self, name: str) -> Hashes:
        """The column `source_hash` or `pair_hash`, shape (rows,)."""
        hashes: Hashes = read_table(self.path, [name]).column(name).to_numpy()
        return hashes

    @property
    def held_out(self) -> bool:
        """Whether the pairs belong to an official valid or test split."""
        return self.split in ("valid", "test")


def clean_chunk(params: PreparationParams, chunk: RawChunk) -> pyarrow.Table:
    """The pairs that stay, cleaned, with hashes and numbers of words; the metadata has the fields of `CleanChunk`.

    All pairs of an official valid or test part stay, their targets as published, except for HTML entities, which are
    resolved as in all other texts, and white space at the ends.
    """
    part = chunk.part
    sources, targets = (chunk.pairs.column(side).to_pylist() for side in ("source", "target"))
    if part.format not in MARKUP:
        sources, targets = ([resolve_entities(text) for text in side] for side in (sources, targets))
    sources = [clean_text(text) for text in sources]
    told: dict[str, Any] = {"part": part.name, "split": part.split, "read": len(sources)}
    told |= {"removed": {}, "examples": {}, "unwritable": 0}
    if part.split in ("valid", "test"):
        targets = [text.strip() for text in targets]
        told["unwritable"] = sum(not is_writable(text) for text in targets)
    else:
        targets = [clean_text(text) for text in targets]
        filters = PairFilter(params.filters, part.source_language, part.target_language)
        reasons = [filters.reason_against(source, target) for source, target in zip(sources, targets, strict=True)]
        told["removed"] = Counter(reason for reason in reasons if reason is not None)
        told["examples"] = _examples(sources, targets, reasons)
        kept = [row for row, reason in enumerate(reasons) if reason is None]
        sources, targets = [sources[row] for row in kept], [targets[row] for row in kept]
        # An untyped empty list would be an array of nulls, by which nothing can be taken.
        chunk = chunk._replace(pairs=chunk.pairs.take(pyarrow.array(kept, pyarrow.int64())))
    told["has_further"] = FURTHER in chunk.pairs.column_names
    pairs = pairs_of(sources, targets, chunk.pairs.column("origin"))
    for name, column in _columns(sources, targets).items():
        pairs = pairs.append_column(name, pyarrow.array(column))
    if FURTHER in chunk.pairs.column_names:
        pairs = pairs.append_column(FURTHER, chunk.pairs.column(FURTHER))
    return pairs.replace_schema_metadata({"chunk": json.dumps(told)})


def _examples(sources: list[str], targets: list[str], reasons: list[str | None]) -> dict[str, list[Example]]:
    found: defaultdict[str, list[Example]] = defaultdict(list)
    for source, target, reason in zip(sources, targets, reasons, strict=True):
        if reason is not None:
            found[reason].append(Example(_pair_hash(fold_text(source), target), source, target))
    return {reason: sample(examples) for reason, examples in found.items()}


def _pair_hash(folded_source: str, target: str) -> int:
    return text_hash(f"{folded_source}\n{fold_text(target)}")


def _columns(sources: list[str], targets: list[str]) -> dict[str, Any]:
    folded = [fold_text(text) for text in sources]
    return {
        "source_hash": np.fromiter(map(text_hash, folded), np.uint64, len(folded)),
        "pair_hash": np.fromiter(map(_pair_hash, folded, targets), np.uint64, len(folded)),
        "source_words": np.fromiter((len(text.split()) for text in sources), np.int32, len(sources)),
        "target_words": np.fromiter((len(text.split()) for text in targets), np.int32, len(targets)),
    }
