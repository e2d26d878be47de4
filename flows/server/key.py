"""The key of `make serve`'s Prefect: generated once, kept where only its user can read it, never printed."""

import os
import secrets
from pathlib import Path

from transformer.errors import DataError, ParamsError
from transformer.files import OWNER_ONLY, write_private

SERVER_VARIABLE, CLIENT_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
USER = "admin"


def key_file(home: Path) -> Path:
    """Where the key is, below Prefect's home."""
    return home / "key"


def server_key(home: Path) -> str:
    """The key: the one that the environment names, or else the one in the file, which is made where it is missing.

    Raises:
        DataError: others can read the file, or it holds no key.
        ParamsError: the environment names something that is no key.
    """
    path = key_file(home)
    if named := os.environ.get(SERVER_VARIABLE):
        if not _is_key(named):
            raise ParamsError(f"{SERVER_VARIABLE} must be user:password, without spaces, in ASCII")
        write_private(path, f"{named}\n")  # the printed export line reads the file
    elif not path.exists():
        write_private(path, f"{USER}:{secrets.token_urlsafe(32)}\n")
    elif path.stat().st_mode & 0o777 & ~OWNER_ONLY:
        raise DataError(f"{path} can be read by others: delete it, and the next start makes a new key")
    key = path.read_text(encoding="utf-8", errors="replace").strip()
    if not _is_key(key):
        raise DataError(f"{path} holds no key (user:password, in one line): delete it, and the next start makes one")
    return key


def _is_key(text: str) -> bool:
    return text.isascii() and ":" in text and not any(sign.isspace() for sign in text)


def key_settings(key: str, address: str) -> dict[str, str]:
    """What makes Prefect's server ask for the key, and its programs send it; only its own pages may call it."""
    return {SERVER_VARIABLE: key, CLIENT_VARIABLE: key, "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": address}
