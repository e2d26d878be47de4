"""Readers: every format of a part as the same stream of pair batches."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet

from transformer.data.parts import Format, Part
from transformer.data.prepare.catalogue import read_catalogue_pairs
from transformer.data.prepare.line_files import read_line_pairs, read_tsv_pairs
from transformer.data.prepare.pairs import Advance, Pair, PairBatch, batched
from transformer.data.prepare.sgm import read_sgm_pairs
from transformer.errors import DataError

PARQUET_ROWS = 8192  # rows decoded at a time


def read_part(part: Part, raw: Path, batch_pairs: int, advance: Advance) -> Iterator[PairBatch]:
    """The pairs of `part`, whose files lie in the folder `raw`, as they stand in the files.

    Raises:
        DataError: malformed input; names the file and, where there is one, the line.
    """
    empty = True
    for batch in batched(_READERS[part.format](part, raw, advance), batch_pairs):
        empty = False
        yield batch
    if empty:
        raise DataError(f"{raw / part.source} holds no pair for {part.source_language}-{part.target_language}")


def bytes_of(part: Part, raw: Path) -> int:
    """How many bytes the files of `part` have together."""
    paths = {raw / part.source, raw / part.target}
    return sum(path.stat().st_size for path in paths if path.exists())


def read_parquet_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """Two text columns of a Parquet file; a null is an empty sentence.

    Raises:
        DataError: not a Parquet file, or a column that is missing or not text.
    """
    path = raw / part.source
    columns = [part.source_field, part.target_field]
    try:
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:  # a buffer would keep all that was read
            for name in columns:
                _check_text_column(path, file.schema_arrow, name)
            for batch in file.iter_batches(PARQUET_ROWS, columns=columns):
                advance(path.stat().st_size * batch.num_rows // file.metadata.num_rows)
                sides = (batch.column(name).to_pylist() for name in columns)
                for source, target in zip(*sides, strict=True):
                    yield Pair(source or "", target or "", part.name)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _check_text_column(path: Path, schema: pyarrow.Schema, name: str) -> None:
    if name not in schema.names:
        raise DataError(f"{path} has no column {name!r}; its columns are {', '.join(schema.names)}")
    kind = schema.field(name).type
    if not (pyarrow.types.is_string(kind) or pyarrow.types.is_large_string(kind)):
        raise DataError(f"{path}: column {name!r} holds {kind}, not text")


_READERS: dict[Format, Callable[[Part, Path, Advance], Iterator[Pair]]] = {
    "lines": read_line_pairs,
    "sgm": read_sgm_pairs,
    "tsv": read_tsv_pairs,
    "parquet": read_parquet_pairs,
    "catalogue": read_catalogue_pairs,
}
