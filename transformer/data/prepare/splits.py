"""The three splits: which pair belongs to which, exact duplicates among them, and their Parquet files."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from transformer.data.parts import Split
from transformer.data.prepare.readers.part import PairBatch
from transformer.files import atomic_path
from transformer.params import PreparationParams

Hashes = NDArray[np.uint64]

SPLITS: tuple[Split, ...] = ("train", "valid", "test")
PARTITION_HASHES = 1 << 23  # some 400 MB while they are sorted
COLUMNS = ("source", "target", "origin")
SCHEMA = pyarrow.schema([pyarrow.field(name, pyarrow.string(), nullable=False) for name in COLUMNS])
FURTHER = "further"  # the column of references beside the target, only in a test split that has any
FURTHER_TYPE = pyarrow.list_(pyarrow.string())
SCHEMA_WITH_FURTHER = SCHEMA.append(pyarrow.field(FURTHER, FURTHER_TYPE))
ROW_GROUP_PAIRS = 65536


def text_hash(text: str) -> int:
    """A 64-bit hash, the same on every machine; the odds that any two of 40 million texts collide are 1 to 23 000."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8"), digest_size=8).digest(), "big")


def split_numbers(source_hashes: Hashes, params: PreparationParams, drawn: frozenset[Split]) -> NDArray[np.int8]:
    """For each pair the position in SPLITS, by its source alone: a growing corpus moves no pair to another split.

    Only the splits `drawn` are taken from the pairs; the rest of them is train.
    """
    shares = source_hashes.astype(np.float64) / 2**64
    in_test = shares < params.test_share
    in_valid = ~in_test & (shares < params.test_share + params.valid_share)
    numbers = np.full(len(shares), SPLITS.index("train"), dtype=np.int8)
    for split, chosen in (("test", in_test), ("valid", in_valid)):
        if split in drawn:
            numbers[chosen] = SPLITS.index(split)
    return numbers


def first_occurrences(read: Callable[[], Iterable[Hashes]]) -> NDArray[np.bool_]:
    """Whether each hash differs from all before it; `read()` yields the same arrays each time, and n hashes in all.

    Returns shape (n,). Only about PARTITION_HASHES of them are sorted at a time, and the arrays are read once for
    each such partition.
    """
    count = sum(len(hashes) for hashes in read())
    partitions = -(-count // PARTITION_HASHES)
    first = np.zeros(count, dtype=bool)
    for partition in range(partitions):
        values, places, begin = [], [], 0
        for hashes in read():
            chosen = np.flatnonzero(hashes % np.uint64(partitions) == partition)
            values.append(hashes[chosen])
            places.append(begin + chosen)
            begin += len(hashes)
        _, earliest = np.unique(np.concatenate(values), return_index=True)
        first[np.concatenate(places)[earliest]] = True
    return first


def pair_table(batch: PairBatch) -> pyarrow.Table:
    """The pairs as an Arrow table of `SCHEMA`, and a column FURTHER of lists where a pair has such references."""
    pairs = pairs_of(batch.source, batch.target, batch.origin)
    if not any(batch.further):
        return pairs
    return pairs.append_column(FURTHER, pyarrow.array(map(list, batch.further), FURTHER_TYPE))


def pairs_of(source: list[str], target: list[str], origin: list[str] | pyarrow.ChunkedArray) -> pyarrow.Table:
    """An Arrow table of `SCHEMA`."""
    return pyarrow.table([source, target, origin], schema=SCHEMA)


class SplitWriter:
    """Writes pairs in row groups of a fixed size, so the bytes do not depend on how the pairs were batched."""

    def __init__(self, writer: pyarrow.parquet.ParquetWriter, schema: pyarrow.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._waiting: list[pyarrow.Table] = []
        self._rows = 0

    def write(self, pairs: pyarrow.Table) -> None:
        """Add pairs, other columns than the schema's left out; they reach the file a row group at a time."""
        if FURTHER in self._schema.names and FURTHER not in pairs.column_names:
            pairs = pairs.append_column(FURTHER, pyarrow.nulls(pairs.num_rows, FURTHER_TYPE))
        self._waiting.append(pairs.select(self._schema.names).cast(self._schema))
        self._rows += pairs.num_rows
        while self._rows >= ROW_GROUP_PAIRS:
            self._write_group(ROW_GROUP_PAIRS)

    def finish(self) -> None:
        """Write the last, shorter row group."""
        if self._rows:
            self._write_group(self._rows)

    def _write_group(self, rows: int) -> None:
        waiting = pyarrow.concat_tables(self._waiting)
        # Copied into one piece, because page boundaries follow the pieces of a column.
        self._writer.write_table(waiting.slice(0, rows).combine_chunks(), row_group_size=ROW_GROUP_PAIRS)
        self._waiting, self._rows = [waiting.slice(rows)], waiting.num_rows - rows


@contextmanager
def split_writer(path: Path, schema: pyarrow.Schema = SCHEMA) -> Iterator[SplitWriter]:
    """A writer whose file appears at `path`, complete, when the block ends without an error."""
    with (
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(
            temporary, schema, version="2.6", compression="zstd", compression_level=3, use_dictionary=["origin"]
        ) as file,
    ):
        writer = SplitWriter(file, schema)
        yield writer
        writer.finish()
