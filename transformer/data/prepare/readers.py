"""Readers: every format of a part as the same stream of pair batches."""

import gzip
import html
import json
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

from transformer.data.parts import Format, Part
from transformer.errors import DataError

LINES_BETWEEN_ADVANCES = 4096
PARQUET_ROWS = 8192  # rows decoded at a time

_SGM_TAG = re.compile(r"<(/?)(doc|seg)\b([^>]*)>", re.IGNORECASE)
_SGM_ATTRIBUTE = re.compile(r"""([\w:-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")

Key = tuple[str, ...]  # where a string is in a catalogue, from the top
Advance = Callable[[int], None]  # called by a reader with the number of bytes read since the last call


class Pair(NamedTuple):
    """A sentence, its translation and their origin: a part's name, optionally followed by "/" and something finer."""

    source: str
    target: str
    origin: str


class PairBatch(NamedTuple):
    """Aligned columns of a bounded number of pairs."""

    source: list[str]
    target: list[str]
    origin: list[str]


def batched(pairs: Iterable[Pair], batch_pairs: int) -> Iterator[PairBatch]:
    """`pairs` in batches of at most `batch_pairs`."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, batch_pairs)):
        source, target, origin = map(list, zip(*chunk, strict=True))
        yield PairBatch(source, target, origin)


def read_lines(path: Path, advance: Advance) -> Iterator[str]:
    """The lines of a UTF-8 file without their ends; a name that ends in `.gz` means gzip.

    Only the line feed ends a line (with a carriage return before it, if there is one): U+2028 and its like occur
    inside the sentences of crawled corpora, and breaking there would shift all pairs after it.

    Raises:
        DataError: missing or empty file, bad UTF-8, damaged gzip.
    """
    number = 0
    try:
        with path.open("rb") as file:
            reached = 0
            stream = gzip.GzipFile(fileobj=file) if path.suffix == ".gz" else file
            for number, line in enumerate(stream, 1):
                if number % LINES_BETWEEN_ADVANCES == 0:
                    advance(file.tell() - reached)
                    reached = file.tell()
                text = line.rstrip(b"\n").removesuffix(b"\r").decode("utf-8")
                yield text.removeprefix("\ufeff") if number == 1 else text
    except UnicodeDecodeError as error:
        raise DataError(f"{path}, line {number}: not UTF-8 ({error.reason}); convert the file to UTF-8") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        reason = "cut short" if isinstance(error, EOFError) else "damaged"
        raise DataError(f"{path}: the gzip file is {reason} after line {number}; download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None
    if number == 0:
        raise DataError(f"{path} is empty: download it again or remove it from the corpus")


def read_line_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """Line n of the source file with line n of the target file.

    Raises:
        DataError: the files differ in their number of lines, or as in `read_lines`.
    """
    source_path, target_path = raw / part.source, raw / part.target
    sources, targets = read_lines(source_path, advance), read_lines(target_path, advance)
    for number, (source, target) in enumerate(zip_longest(sources, targets), 1):
        if source is None or target is None:
            missing = "source" if source is None else "target"
            longer = number + sum(1 for _ in (targets if source is None else sources))
            counts = (number - 1, longer) if source is None else (longer, number - 1)
            raise DataError(
                f"{source_path} has {counts[0]} lines, {target_path} has {counts[1]}: pair {number} has no {missing}"
            )
        yield Pair(source, target, part.name)


def read_tsv_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """Two columns, numbered from 0, of a tab-separated file without quoting.

    Raises:
        DataError: a line with too few columns, or as in `read_lines`.
    """
    path = raw / part.source
    if not (part.source_field.isdecimal() and part.target_field.isdecimal()):
        raise DataError(
            f"{path}: TSV columns are numbers from 0, not {part.source_field!r} and {part.target_field!r}"
        )
    source_column, target_column = int(part.source_field), int(part.target_field)
    for number, line in enumerate(read_lines(path, advance), 1):
        columns = line.split("\t")
        last = max(source_column, target_column)
        if last >= len(columns):
            raise DataError(f"{path}, line {number}: has {len(columns)} tab-separated columns, but no column {last}")
        yield Pair(columns[source_column], columns[target_column], part.name)


class Segment(NamedTuple):
    """One sentence of a test set."""

    document: str
    number: str
    text: str
    line: int  # where it begins in its file, from 1


def read_segments(path: Path, advance: Advance) -> Iterator[Segment]:
    """The segments of an SGM file in their order, entities resolved, lines inside a segment joined.

    SGM is not XML: bare ampersands and angle brackets occur in the text, so only the `doc` and `seg` tags are read.

    Raises:
        DataError: a segment outside a document, without id or without end, or as in `read_lines`.
    """
    document, number, text, begin, line = None, None, "", 0, 0
    for line, content in enumerate(read_lines(path, advance), 1):
        position = 0
        for tag in _SGM_TAG.finditer(content):
            if number is not None:
                text += content[position : tag.start()]
            position = tag.end()
            closing, name = bool(tag[1]), tag[2].lower()
            if number is not None and not (closing and name == "seg"):
                raise DataError(f"{path}, line {line}: {tag[0]} inside segment {number}, which has no </seg>")
            if name == "doc":
                document = None if closing else _attribute(path, line, tag, "docid")
            elif not closing:
                number, text, begin = _attribute(path, line, tag, "id"), "", line
                if document is None:
                    raise DataError(f"{path}, line {line}: segment {number} is outside any <doc>")
            elif number is not None:
                yield Segment(str(document), number, html.unescape(text).strip(), begin)
                number = None
        if number is not None:
            text += content[position:] + " "
    if number is not None:
        raise DataError(f"{path}, line {begin}: segment {number} has no </seg>; the file may be cut short")


def _attribute(path: Path, line: int, tag: re.Match[str], name: str) -> str:
    for key, double_quoted, single_quoted in _SGM_ATTRIBUTE.findall(tag[3]):
        if key.lower() == name:
            return str(double_quoted or single_quoted)
    raise DataError(f"{path}, line {line}: {tag[0]} has no {name}")


def read_sgm_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """Segment n of the source file with segment n of the reference file.

    Raises:
        DataError: the two files list different segments, or as in `read_segments`.
    """
    source_path, target_path = raw / part.source, raw / part.target
    sources, targets = (list(read_segments(path, advance)) for path in (source_path, target_path))
    for source, target in zip(sources, targets, strict=False):
        if (source.document, source.number) != (target.document, target.number):
            raise DataError(
                f"{target_path}, line {target.line}: segment {target.number} of {target.document} is where "
                f"{source_path} has segment {source.number} of {source.document}"
            )
        yield Pair(source.text, target.text, part.name)
    if len(sources) != len(targets):
        raise DataError(f"{source_path} has {len(sources)} segments, {target_path} has {len(targets)}")
    if not sources:
        raise DataError(f"{source_path} holds no <seg>: is it an SGM file?")


def read_catalogue_pairs(part: Part, raw: Path, advance: Advance) -> Iterator[Pair]:
    """The strings under the same key of the same component's two files; origin is "<part>/<top-level key>".

    Components in the order of their member names, keys in the order of the source file. A key or a component that
    only one language has makes no pair.

    Raises:
        DataError: damaged zip, a member that is not UTF-8 JSON, no member of a language.
    """
    path = raw / part.source
    try:
        with zipfile.ZipFile(path) as archive:
            for source_member, target_member in _components(archive, path, part):
                sources = _strings(archive, path, source_member)
                targets = _strings(archive, path, target_member)
                advance(sum(archive.getinfo(member).compress_size for member in (source_member, target_member)))
                for key, source in sources.items():
                    if key in targets:
                        yield Pair(source, targets[key], f"{part.name}/{key[0]}")
    except (zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(f"{path}: damaged zip file ({error}); download it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from None


def _components(archive: zipfile.ZipFile, path: Path, part: Part) -> list[tuple[str, str]]:
    """Member names (source, target) of the components that have both languages."""
    sources, targets = (_members(archive, pattern) for pattern in (part.source_field, part.target_field))
    for members, pattern in ((sources, part.source_field), (targets, part.target_field)):
        if not members:
            raise DataError(f"{path}: no member matches {pattern}; is the language right?")
    return [(name, targets[stars]) for stars, name in sorted(sources.items()) if stars in targets]


def _members(archive: zipfile.ZipFile, pattern: str) -> dict[Key, str]:
    """Member names that match `pattern`, by what its stars match."""
    expression = re.compile("(.*)".join(map(re.escape, pattern.split("*"))))
    found = ((expression.fullmatch(name), name) for name in archive.namelist())
    return {match.groups(): name for match, name in found if match}


def _strings(archive: zipfile.ZipFile, path: Path, member: str) -> dict[Key, str]:
    """All string leaves of a JSON member by their keys from the top."""
    try:
        strings = dict(_leaves(json.loads(archive.read(member).decode("utf-8-sig")), ()))
        for text in strings.values():
            text.encode("utf-8")  # JSON can spell half a surrogate pair, which is not a character
    except (ValueError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
        raise DataError(f"{path}, member {member}: not UTF-8 JSON ({' '.join(str(error).split())})") from None
    return strings


def _leaves(node: Any, key: Key) -> Iterator[tuple[Key, str]]:
    if isinstance(node, str):
        yield key or ("",), node
    elif isinstance(node, dict | list):
        for step, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, (*key, str(step)))


def read_part(part: Part, raw: Path, batch_pairs: int, advance: Advance) -> Iterator[PairBatch]:
    """The pairs of `part`, unchanged, from its files in the folder `raw`.

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
        with pyarrow.parquet.ParquetFile(path, pre_buffer=False) as file:  # a buffer would keep everything in memory
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
