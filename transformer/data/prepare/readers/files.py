"""What a reader is given: the files of a part, what to call them in messages, and their lines."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from transformer.data.compression import DAMAGE, damage, unpacked
from transformer.data.parts import Part
from transformer.errors import DataError

LINES_BETWEEN_ADVANCES = 4096
MAX_LINE_BYTES = 1 << 20
MOST_CARRIAGE_RETURNS = 10  # within the first line; more are line ends of another kind

Advance = Callable[[int], None]  # called by a reader with the number of bytes read since the last call


class Pair(NamedTuple):
    """A sentence, its translation and their origin: a part's name, optionally followed by "/" and something finer."""

    source: str
    target: str
    origin: str
    further: tuple[str, ...] = ()  # references beside the target


class RawFile(NamedTuple):
    """A file in the raw folder."""

    path: Path
    name: str  # what it is called in messages: the user's own file where `path` is a copy of that
    is_local: bool  # whether it is such a copy
    max_line_bytes: int
    advance: Advance

    def malformed(
        self, what: str, line: int | None = None, *, mend: str = "mend it", setting: str | None = None
    ) -> DataError:
        """An error about content that is as its author wrote it; `setting` is what to change instead of the file."""
        remedy = setting or (
            f"{mend}, then run `dvc repro --force download`"
            if self.is_local
            else "it is as published: leave its part out of data/corpora.yaml, or give a mended copy as `local`"
        )
        where = f", line {line}" if line else ""
        return DataError(f"{self.name}{where}: {what}; {remedy}")

    def damaged(self, what: str) -> DataError:
        """An error about bytes that are not as their author wrote them."""
        remedy = (
            "replace it by a whole copy, then run `dvc repro --force download`"
            if self.is_local
            else "run `dvc repro --force download`; if that does not help, the file is published so"
        )
        return DataError(f"{self.name}: {what}; {remedy}")

    def unreadable(self, error: OSError) -> DataError:
        """An error about the disk; it names the file in the raw folder, which is the one that is read."""
        return DataError(f"{self.path}: cannot be read ({error.strerror or error}); run `dvc repro --force download`")

    def too_long(self, what: str, line: int | None = None) -> DataError:
        """An error about a text of more than `max_line_bytes`."""
        limit = f"preparation.max_line_bytes = {self.max_line_bytes}"
        return self.malformed(f"{what} is longer than {limit}", line, setting="raise that, or split the text")

    def blank(self, line: int) -> DataError:
        """An error about a blank line between documents."""
        setting = "say `blank_lines: skip` in data/corpora.yaml, or `keep` for an empty pair"
        return self.malformed("a blank line", line, setting=setting)


class PartFiles(NamedTuple):
    """A part with its two files, which are the same one for formats that hold both sides."""

    part: Part
    source: RawFile
    target: RawFile
    left_out: Counter[str]  # reason -> units that a reader passes over


def line_pairs(
    files: PartFiles, lines: Iterable[tuple[int, str]], sides: Callable[[int, str], tuple[str, str]]
) -> Iterator[Pair]:
    """The pair of each numbered line by `sides`; a blank one is an empty pair, left out or for `sides` to refuse."""
    part = files.part
    for number, line in lines:
        if line.strip() or not part.blank_lines:
            yield Pair(*sides(number, line), part.name)
        elif part.blank_lines == "keep":
            yield Pair("", "", part.name)
        else:
            files.left_out["blank_line"] += 1


def trouble(raw: RawFile, error: Exception, line: int | None = None) -> DataError:
    """What an exception of DAMAGE or an OSError says about the file; `line` is the last one that could be read."""
    what = damage(error)
    if what is None and isinstance(error, OSError):
        return raw.unreadable(error)
    return raw.damaged(f"the compressed file is {what}{'' if line is None else f' after line {line}'}")


def byte_lines(raw: RawFile) -> Iterator[bytes]:
    """The lines of a file, compressed or not, without their ends and in bounded memory.

    Only the line feed ends a line (with a carriage return before it, if there is one): U+2028 and its like occur
    inside the sentences of crawled corpora, and breaking there would shift all pairs after it.

    Raises:
        DataError: missing or empty file, damaged compression, a line of more than `max_line_bytes`.
    """
    number = reached = 0
    try:
        with raw.path.open("rb") as file:
            lines = iter(partial(unpacked(file).readline, raw.max_line_bytes + 2), b"")
            for number, line in enumerate(lines, 1):
                if number % LINES_BETWEEN_ADVANCES == 0:
                    raw.advance(file.tell() - reached)
                    reached = file.tell()
                text = line.rstrip(b"\n").removesuffix(b"\r")
                if len(text) > raw.max_line_bytes:
                    raise raw.too_long("it", number)
                yield text
    except (*DAMAGE, OSError) as error:
        raise trouble(raw, error, number) from None
    if number == 0:
        raise raw.malformed("it is empty")


def read_lines(raw: RawFile) -> Iterator[str]:
    """The lines of a UTF-8 file, without a byte-order mark.

    Raises:
        DataError: bad UTF-8, or as in `byte_lines`.
    """
    number = 0
    try:
        for number, line in enumerate(byte_lines(raw), 1):
            yield _first_line(raw, line) if number == 1 else line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise raw.malformed(f"not UTF-8 ({error.reason})", number, mend="convert it (iconv)") from None


def _first_line(raw: RawFile, line: bytes) -> str:
    if line.startswith((b"\xff\xfe", b"\xfe\xff")) or 4 * line.count(b"\0") > len(line) > 0:
        raise raw.malformed("not UTF-8 but UTF-16 or binary", 1, mend="convert it (iconv -f utf-16 -t utf-8)")
    if (returns := line.count(b"\r")) > MOST_CARRIAGE_RETURNS:
        what = f"{returns} carriage returns, where a line feed alone ends a line"
        raise raw.malformed(what, 1, mend="convert it (tr '\\r' '\\n')")
    return line.decode("utf-8").removeprefix("\ufeff")
