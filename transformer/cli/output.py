"""What commands write: to stdout, at once and whole, or one line on stderr that says why not."""

import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress

from transformer.errors import UserError


class OutputError(UserError):
    """What was found cannot be written."""


def check_output() -> None:
    """OutputError if stdout has been closed, `>&-`: there is no use in working for it."""
    if sys.stdout is None:
        raise OutputError("stdout is closed: there is nowhere to write to")


def write_out(text: str) -> None:
    """Write to stdout and flush, so that a program that waits for an answer has it.

    Raises:
        BrokenPipeError: the reader has closed the pipe.
        OutputError: stdout can't be written for another reason.
    """
    check_output()
    data = text.encode()
    try:
        while data:
            data = data[_waiting(lambda: sys.stdout.buffer.write(data)) :]  # noqa: B023
        _waiting(sys.stdout.buffer.flush)
    except OSError as error:
        # Python flushes stdout at exit and would complain again, so what is left goes nowhere.
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        raise OutputError(f"stdout cannot be written: {error.strerror}") from None


def complain(message: str) -> None:
    """One line on stderr, if there is one."""
    with suppress(OSError):
        print(f"transformer: {message}", file=sys.stderr, flush=True)


def _waiting(write: Callable[[], int | None]) -> int:
    """The bytes that `write` has written, where the other end of a pipe has made it non-blocking and it is full."""
    while True:
        try:
            return write() or 0
        except BlockingIOError as error:
            select.select([], [sys.stdout.fileno()], [])
            if error.characters_written:
                return error.characters_written
