"""Text files read line by line, plain or gzipped: aligned pairs of files, and tab-separated columns."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from transformer.data.parts import Part
from transformer.data.prepare.pairs import Advance, Pair
from transformer.errors import DataError

LINES_BETWEEN_ADVANCES = 4096


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
        raise DataError(f"{path} is empty: download it again or take it out of the corpus")


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
