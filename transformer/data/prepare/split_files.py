"""The Parquet files of the splits: columns source, target and origin, all text."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow
import pyarrow.parquet

from transformer.data.prepare.pairs import Advance, PairBatch
from transformer.files import atomic_path

COLUMNS = ("source", "target", "origin")
SCHEMA = pyarrow.schema([pyarrow.field(name, pyarrow.string(), nullable=False) for name in COLUMNS])
ROW_GROUP_PAIRS = 65536


class SplitWriter:
    """Writes pairs in row groups of a fixed size, so the bytes do not depend on how the pairs were batched."""

    def __init__(self, writer: pyarrow.parquet.ParquetWriter) -> None:
        self._writer = writer
        self._waiting = PairBatch()

    def write(self, batch: PairBatch) -> None:
        """Add pairs; they reach the file a row group at a time."""
        self._waiting.extend(batch)
        while len(self._waiting) >= ROW_GROUP_PAIRS:
            group, self._waiting = self._waiting.split_at(ROW_GROUP_PAIRS)
            self._write_group(group)

    def finish(self) -> None:
        """Write the last, shorter row group."""
        if len(self._waiting):
            self._write_group(self._waiting)
            self._waiting = PairBatch()

    def _write_group(self, group: PairBatch) -> None:
        columns = [group.source, group.target, group.origin]
        self._writer.write_table(pyarrow.table(columns, schema=SCHEMA), row_group_size=ROW_GROUP_PAIRS)


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


def read_split(path: Path, batch_pairs: int, advance: Advance) -> Iterator[PairBatch]:
    """The pairs of a split file in batches."""
    with pyarrow.parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_pairs, columns=list(COLUMNS)):
            advance(path.stat().st_size * batch.num_rows // file.metadata.num_rows)
            yield PairBatch(*(batch.column(name).to_pylist() for name in COLUMNS))
