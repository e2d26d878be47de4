"""Lines that commands read: decoded, counted, and cut into chunks that are worked on together."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

from transformer.errors import DataError
from transformer.progress import ignore_progress, sentence_progress

FIRST_CHUNK, LARGEST_CHUNK = 8, 4096  # lines; chunks double in length, so that output starts early


def lines_of(file: Path | None) -> Iterator[str]:
    """The lines of a file, or of stdin.

    Raises:
        DataError: the file cannot be read, or a line is not UTF-8.
    """
    if file is None:
        yield from decoded(sys.stdin.buffer, "stdin")
        return
    try:
        with file.open("rb") as stream:
            yield from decoded(stream, str(file))
    except (FileNotFoundError, IsADirectoryError, PermissionError) as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from None


def decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    """The lines of UTF-8 text, ended by line feeds only, as wc, sed and the like count them.

    Raises:
        DataError: a line is not UTF-8; names it.
    """
    for number, line in enumerate(stream, 1):
        try:
            yield line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}, line {number}: byte {error.start + 1} is not UTF-8; convert the text first (iconv -t utf-8)"
            ) from None


def chunks(lines: Iterator[str], interactive: bool) -> Iterator[list[str]]:
    """Lines that are translated and written together: one at a time for a person, else more and more."""
    size, chunk = 1 if interactive else FIRST_CHUNK, list[str]()
    for line in lines:
        chunk.append(line)
        if len(chunk) == size:
            yield chunk
            size, chunk = size if interactive else min(2 * size, LARGEST_CHUNK), []
    if chunk:
        yield chunk


def progress(file: Path | None) -> AbstractContextManager[Callable[[int], None]]:
    """A bar where a file is translated to another file or a pipe; the lines of stdin can't be counted beforehand."""
    if file is None or not file.is_file() or sys.stdout.isatty():
        return nullcontext(ignore_progress)
    return sentence_progress("translating", sum(1 for _ in lines_of(file)))
