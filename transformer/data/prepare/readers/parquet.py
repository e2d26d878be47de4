"""Parquet files: two columns of text, which may be nested (`translation.en`, as Hugging Face data sets have them)."""

from collections.abc import Iterator

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from transformer.data.prepare.readers.files import Pair, PartFiles, RawFile

NAME_COLUMNS = "name two that hold text in data/corpora.yaml"
PARQUET_ROWS = 8192  # rows decoded at a time


def read_parquet_pairs(files: PartFiles) -> Iterator[Pair]:
    """Two text columns of a Parquet file; a null is an empty sentence.

    Raises:
        DataError: not a Parquet file, a column that is missing, ambiguous or not text, bad UTF-8.
    """
    part, raw = files.part, files.source
    columns = [part.source_field, part.target_field]
    row = 0
    try:
        with pyarrow.parquet.ParquetFile(raw.path, pre_buffer=False) as file:  # a buffer would keep all in memory
            places = [_place(raw, file.schema_arrow, name) for name in columns]
            for batch in file.iter_batches(PARQUET_ROWS, columns=sorted({".".join(place) for place in places})):
                raw.advance(raw.path.stat().st_size * batch.num_rows // file.metadata.num_rows)
                sides = [
                    _texts(raw, name, _column(batch, place), row) for name, place in zip(columns, places, strict=True)
                ]
                for source, target in zip(*sides, strict=True):
                    yield Pair(source, target, part.name)
                row += batch.num_rows
    except OSError as error:
        if error.errno:
            raise raw.unreadable(error) from None
        raise raw.damaged(f"not a readable Parquet file ({str(error).splitlines()[0]})") from None
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:  # of names of columns
        raise raw.damaged(f"not a readable Parquet file ({str(error).splitlines()[0]})") from None


def _place(raw: RawFile, schema: pyarrow.Schema, name: str) -> list[str]:
    """The steps to a column of text: its name, or the names of the structs around it and its own."""
    fields, place, rest = list(schema), list[str](), name
    while True:
        step = rest if rest in [field.name for field in fields] else rest.partition(".")[0]
        found = [field for field in fields if field.name == step]
        if len(found) != 1:
            how = "no column" if not found else f"{len(found)} columns named"
            raise raw.malformed(
                f"it has {how} {name!r}; its columns are {', '.join(_leaves(schema))}", setting=NAME_COLUMNS
            )
        place.append(step)
        kind, rest = found[0].type, rest[len(step) + 1 :]
        if not rest:
            break
        if not pyarrow.types.is_struct(kind):
            raise raw.malformed(
                f"it has no column {name!r}; its columns are {', '.join(_leaves(schema))}", setting=NAME_COLUMNS
            )
        fields = list(kind)
    if not _is_text(kind):
        raise raw.malformed(
            f"column {name!r} holds {kind}, not text; its columns are {', '.join(_leaves(schema))}",
            setting=NAME_COLUMNS,
        )
    return place


def _leaves(fields: pyarrow.Schema | pyarrow.StructType, prefix: str = "") -> Iterator[str]:
    for field in fields:
        if pyarrow.types.is_struct(field.type):
            yield from _leaves(field.type, f"{prefix}{field.name}.")
        else:
            yield f"{prefix}{field.name}"


def _is_text(kind: pyarrow.DataType) -> bool:
    if pyarrow.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return any(
        check(kind)
        for check in (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_string_view)
    )


def _column(batch: pyarrow.RecordBatch, place: list[str]) -> pyarrow.Array:
    column = batch.column(place[0])
    for step in place[1:]:
        column = pyarrow.compute.struct_field(column, step)
    return column


def _texts(raw: RawFile, name: str, column: pyarrow.Array, row: int) -> list[str]:
    """The texts of consecutive rows, the first of which is `row` from 0."""
    try:
        texts = [text or "" for text in column.to_pylist()]
    except UnicodeDecodeError:
        number = next(number for number, one in enumerate(column, row + 1) if not _is_utf8(one))
        raise raw.malformed(f"row {number}: column {name!r} is not UTF-8") from None
    for number, text in enumerate(texts, row + 1):
        if len(text) > raw.max_line_bytes:
            raise raw.too_long(f"row {number} of column {name!r}")
    return texts


def _is_utf8(value: pyarrow.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
