"""The key that requests must show: from the environment or a file of its user's own, never on a command line.

Command lines can be read by every user of the machine.
"""

import os
from pathlib import Path

from transformer.errors import DataError, ParamsError
from transformer.files import OWNER_ONLY

VARIABLE = "TRANSFORMER_API_KEY"
SHORTEST = 16  # characters
_MAKE = 'python3 -c "import secrets; print(secrets.token_urlsafe(32))"'


def api_key(file: Path | None) -> str | None:
    """The key in `file`, or else in TRANSFORMER_API_KEY; None if neither is named.

    Raises:
        DataError: the file can't be read, can be read by others, or holds no key.
        ParamsError: the environment names something that is no key.
    """
    if file is not None:
        return _in_file(file)
    named = os.environ.get(VARIABLE)
    if named is not None and not _is_key(named):
        raise ParamsError(f"{VARIABLE} {_NO_KEY}")
    return named


_NO_KEY = f"must be a key of at least {SHORTEST} visible ASCII characters, such as {_MAKE} prints"


def _in_file(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            mode = os.fstat(stream.fileno()).st_mode & 0o777
            text = stream.read(4096).decode("latin-1").strip()
    except OSError as error:
        raise DataError(f"--key-file {file}: {error.strerror}") from None
    if mode & ~OWNER_ONLY:
        raise DataError(f"--key-file {file} can be read by others (mode {mode:o}): chmod 600 {file}")
    if not _is_key(text):
        raise DataError(f"--key-file {file} {_NO_KEY}")
    return text


def _is_key(text: str) -> bool:
    return len(text) >= SHORTEST and all("!" <= sign <= "~" for sign in text)
