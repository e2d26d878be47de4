"""Lines that commands read: from a file or a pipe, decoded, in chunks that are worked on together."""

import io
import os
import select
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path

from transformer.errors import DataError
from transformer.progress import ignore_progress, sentence_progress
from transformer.section import shown

FIRST_CHUNK, LARGEST_CHUNK = 8, 4096  # lines; chunks double in length, so that output starts early
LONGEST_LINE = 1 << 20  # bytes; a longer one is no text, and must not fill the memory
BLOCK = 1 << 16
STDIN = Path("-")


class LineReader:
    """The lines of UTF-8 text, ended by line feeds only, as wc, sed and the like count them."""

    def __init__(self, descriptor: int, name: str) -> None:
        """`name` stands for the file in messages."""
        self.name = name
        self._descriptor = descriptor
        self._waiting, self._begun = deque[bytes](), bytearray()
        self._taken, self._ended = 0, False
        self._trouble: DataError | None = None

    def take(self, most: int) -> list[str]:
        """The lines that are there, at least one and at most `most`; none at the end.

        A program that sends a line and waits for the answer gets it: only for the first line is waited.

        Raises:
            DataError: the first of them is not UTF-8 or can't be read; the lines before it have been taken.
        """
        while len(self._waiting) < most and not self._ended and not (self._waiting and not self._is_ready()):
            self._read()
        lines = list[str]()
        while self._waiting and len(lines) < most:
            try:
                lines.append(self._waiting[0].decode().rstrip("\r\n"))
            except UnicodeDecodeError as error:
                if lines:
                    break
                raise self._not_utf8(error) from None
            self._waiting.popleft()
        self._taken += len(lines)
        if self._trouble and not lines:
            raise self._trouble
        return lines

    def _not_utf8(self, error: UnicodeDecodeError) -> DataError:
        from transformer.data.compression import compression_of  # here: only what is no text needs it

        begin = self._waiting[0] if not self._taken else b""
        if compression := compression_of(io.BytesIO(begin)):
            return DataError(f"{self.name} is compressed ({compression}): unpack it, or pipe it in (zcat FILE | …)")
        coding = "-f utf-16 " if begin.startswith((b"\xff\xfe", b"\xfe\xff")) else ""
        return DataError(
            f"{self.name}, line {self._taken + 1}: byte {error.start + 1} is not UTF-8; "
            f"convert the text first (iconv {coding}-t utf-8)"
        )

    def _is_ready(self) -> bool:
        return bool(select.select([self._descriptor], [], [], 0)[0])

    def _read(self) -> None:
        try:
            block = os.read(self._descriptor, BLOCK)
        except BlockingIOError:  # a pipe that another program has made non-blocking
            select.select([self._descriptor], [], [])
            return
        except OSError as error:
            self._end(DataError(f"{self.name} cannot be read: {error.strerror}"))
            return
        first, *further = block.split(b"\n")
        self._begun += first
        if further:
            self._waiting += [bytes(self._begun), *further[:-1]]
            self._begun = bytearray(further[-1])
        if not block:
            self._waiting += [bytes(self._begun)] if self._begun else []
            self._end()
        elif len(self._begun) > LONGEST_LINE:
            number = self._taken + len(self._waiting) + 1
            self._end(
                DataError(
                    f"{self.name}, line {number} has more than {LONGEST_LINE} bytes: is it text, a sentence a line?"
                )
            )

    def _end(self, trouble: DataError | None = None) -> None:
        self._ended, self._trouble = True, trouble


@contextmanager
def reading(file: Path | None, cure: str = "") -> Iterator[LineReader]:
    """The lines of a file; `-` and None are stdin. `cure` is for somebody who gives something else for a file.

    Raises:
        DataError: it can't be opened.
    """
    if file is None or file == STDIN:
        if sys.stdin is None:  # closed by the caller: `<&-`
            raise DataError("stdin is closed: name a FILE, or pipe text into the command")
        yield LineReader(sys.stdin.fileno(), "stdin")
        return
    try:
        descriptor = os.open(file, os.O_RDONLY)
    except OSError as error:
        raise DataError(f"{shown(str(file))} cannot be read: {error.strerror}{_cure(error, cure)}") from None
    try:
        yield LineReader(descriptor, str(file))
    finally:
        os.close(descriptor)


def _cure(error: OSError, cure: str) -> str:
    return "" if not cure or isinstance(error, PermissionError | IsADirectoryError) else f"; {cure}"


def chunks(reader: LineReader) -> Iterator[list[str]]:
    """Lines that are worked on and answered together: those that are there, of a big file more and more."""
    size = FIRST_CHUNK
    while lines := reader.take(size):
        yield lines
        size = min(2 * size, LARGEST_CHUNK)


def progress(file: Path | None, what: str) -> AbstractContextManager[Callable[[int], None]]:
    """A bar where a file is worked on for another file or a pipe; lines of a pipe can't be counted beforehand."""
    if file is not None and file != STDIN and not sys.stdout.isatty():
        with suppress(OSError):  # the reader tells what is wrong with it
            if file.is_file():
                return sentence_progress(what, count_lines(file))
    return nullcontext(ignore_progress)


def count_lines(file: Path) -> int:
    """The lines of a file, a last one without a line feed included."""
    count, last = 0, b"\n"
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(BLOCK), b""):
            count, last = count + block.count(b"\n"), block[-1:]
    return count + (last != b"\n")
