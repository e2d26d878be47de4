"""Errors that the user can fix, and the exit status with which each of them ends a command."""

import errno
import re
from enum import IntEnum

from transformer.credentials import without_credentials


class ExitCode(IntEnum):
    """Exit statuses of the stages and of the `transformer` command."""

    OK = 0
    FAILURE = 1  # an unexpected error: a stack trace is shown, a retry may help
    BAD_PARAMS = 2  # a wrong key or value in params.yaml, data/corpora.yaml or on the command line
    BAD_DATA = 3  # malformed, missing or tampered input; a retry does not help
    DOWNLOAD_FAILED = 4  # a source could not be reached; a retry may help
    DIVERGED = 5  # the loss became NaN or infinite
    OUT_OF_MEMORY = 6  # the device's memory does not hold a micro-batch
    INTERRUPTED = 75  # SIGTERM, SIGINT or SIGHUP: the state is saved, starting again resumes


class UserError(Exception):
    """A problem described in one line: what is wrong, where, and what to do."""

    exit_code = ExitCode.FAILURE

    def __init__(self, message: str) -> None:
        """Passwords in addresses are left out of the message, and so are line breaks, which quoted input may hold."""
        super().__init__(" ".join(part.strip() for part in without_credentials(message).splitlines()))


class ParamsError(UserError):
    """A wrong key or value in params.yaml, data/corpora.yaml or on the command line."""

    exit_code = ExitCode.BAD_PARAMS


class DataError(UserError):
    """Malformed, missing or tampered input data."""

    exit_code = ExitCode.BAD_DATA


class DownloadError(UserError):
    """A source could not be fetched."""

    exit_code = ExitCode.DOWNLOAD_FAILED


class DivergedError(UserError):
    """The loss became NaN or infinite."""

    exit_code = ExitCode.DIVERGED


class DeviceMemoryError(UserError):
    """The device's memory does not hold one micro-batch."""

    exit_code = ExitCode.OUT_OF_MEMORY


class InterruptedTrainingError(UserError):
    """The process was asked to stop and has saved its state."""

    exit_code = ExitCode.INTERRUPTED


_OF_THE_MACHINE = {
    errno.ENOSPC: "no room is left on the disk",
    errno.EDQUOT: "the disk quota is used up",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EIO: "the disk reports an error of its own",
    errno.EMFILE: "this process has too many files open",
    errno.ENFILE: "the machine has too many files open",
    errno.ESTALE: "the network file system has lost the file",
}
_WORDS_FOR_FULL = ("No space left on device", "os error 28", "database or disk is full")  # where no errno is given


def trouble_of_the_machine(error: Exception) -> UserError | None:
    """A full disk, a missing permission and their like as one line; None if the error is none of these."""
    number, where = None, ""
    if isinstance(error, OSError):
        number, where = error.errno, f"{error.filename}: " if error.filename else ""
        if number is None and (told := re.search(r"[Ee]rrno (\d+)", str(error))):  # Arrow only writes it
            number = int(told[1])
    if number not in _OF_THE_MACHINE and any(words in str(error) for words in _WORDS_FOR_FULL):
        number = errno.ENOSPC
    if number not in _OF_THE_MACHINE:
        return None
    cure = "make room" if number in (errno.ENOSPC, errno.EDQUOT) else "put that right"
    return UserError(f"{where}{_OF_THE_MACHINE[number]}; {cure} and start again to continue")
