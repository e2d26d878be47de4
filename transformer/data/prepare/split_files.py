"""The Parquet files of the splits: columns source, target and origin, all text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet

from transformer.data.prepare.pairs import PairBatch
from transformer.files import atomic_path

COLUMNS = ("source", "target", "origin")
SCHEMA = pyarrow.schema([pyarrow.field(name, pyarrow.string(), nullable=False) for name in COLUMNS])
ROW_GROUP_PAIRS = 65536


def pair_table(batch: PairBatch) -> pyarrow.Table:
    """The pairs as an Arrow table of `SCHEMA`."""
    return pyarrow.table([batch.source, batch.target, batch.origin], schema=SCHEMA)


class SplitWriter:
    """Writes pairs in row groups of a fixed size, so the bytes do not depend on how the pairs were batched."""

    def __init__(self, writer: pyarrow.parquet.ParquetWriter) -> None:
        self._writer = writer
        self._waiting: list[pyarrow.Table] = []
        self._rows = 0

    def write(self, pairs: pyarrow.Table) -> None:
        """Add pairs, other columns than COLUMNS left out; they reach the file a row group at a time."""
        self._waiting.append(pairs.select(COLUMNS).cast(SCHEMA))
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
def split_writer(path: Path) -> Iterator[SplitWriter]:
    """A writer whose file appears at `path`, complete, when the block ends without an error."""
    with (
        atomic_path(path) as temporary,
        pyarrow.parquet.ParquetWriter(
            temporary, SCHEMA, version="2.6", compression="zstd", compression_level=3, use_dictionary=["origin"]
        ) as file,
    ):
        writer = SplitWriter(file)
        yield writer
        writer.finish()
