"""What translations must begin with: the same text for all, or a line of a file for each."""

import argparse
from pathlib import Path
from typing import Self

from transformer.cli.lines import LARGEST_CHUNK, STDIN, count_lines, reading
from transformer.errors import DataError, ParamsError


class Prefixes:
    """The beginnings of the lines that come, in order."""

    def __init__(self, text: str = "", file: Path | None = None) -> None:
        """DataError if the file can't be read."""
        self._text, self._file, self._taken = text, file, 0
        self._lines = _all_lines(file) if file else []

    @classmethod
    def of_options(cls, options: argparse.Namespace) -> Self:
        """What `--prefix` or `--prefixes` says, checked against a file that can be counted before it is translated.

        Raises:
            ParamsError: both the text and its prefixes would be read from stdin.
            DataError: the file of prefixes can't be read, or has another number of lines.
        """
        text, file = options.file, options.prefixes
        if file == STDIN and text in (None, STDIN):
            raise ParamsError("the text and --prefixes can't both be stdin: name a file for one of them")
        prefixes = cls(options.prefix or "", file)
        if file and text and text != STDIN and text.is_file():
            prefixes._check(count_lines(text))
        return prefixes

    def next(self, count: int) -> list[str]:
        """Those of the next `count` lines; none where nothing is forced.

        Raises:
            DataError: there are fewer.
        """
        if not self._file:
            return [self._text] * count if self._text else []
        found = self._lines[self._taken : self._taken + count]
        self._taken += count
        if len(found) < count:
            raise DataError(f"{self._file} has {len(self._lines)} lines, fewer than the text: one is needed for each")
        return found

    def check_end(self) -> None:
        """DataError if there are more than were taken."""
        self._check(self._taken)

    def _check(self, lines: int) -> None:
        if self._file and lines != len(self._lines):
            raise DataError(f"{self._file} has {len(self._lines)} lines and the text {lines}: one is needed for each")


def _all_lines(file: Path) -> list[str]:
    found = list[str]()
    with reading(file) as reader:
        while lines := reader.take(LARGEST_CHUNK):
            found += lines
    return found
