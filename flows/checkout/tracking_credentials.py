"""The password of MLflow's server: taken out of its address, which gets into records, messages and command lines."""

from collections.abc import MutableMapping
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from transformer.credentials import without_credentials
from transformer.errors import ParamsError

ADDRESS = "MLFLOW_TRACKING_URI"
USER, PASSWORD = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"


def move_credentials(environment: MutableMapping[str, str]) -> None:
    """Replace `http://user:password@host` by `http://host` and the variables that MLflow reads both from.

    Of a PostgreSQL database the password goes to PGPASSWORD. Processes started from here inherit both.
    """
    parts = _parts(environment.get(ADDRESS, ""))
    if parts is None or not parts.password:
        return
    host = parts.netloc.rpartition("@")[2]
    if parts.scheme in ("http", "https") and parts.username:
        environment.setdefault(USER, unquote(parts.username))
        environment.setdefault(PASSWORD, unquote(parts.password))
    elif parts.scheme.partition("+")[0] == "postgresql":
        environment.setdefault("PGPASSWORD", unquote(parts.password))
        host = f"{parts.netloc.partition(':')[0]}@{host}"
    else:
        return
    environment[ADDRESS] = urlunsplit(parts._replace(netloc=host))


def checked_address(address: str) -> str:
    """The address, if nothing in it is a secret.

    Raises:
        ParamsError: it has a password, or a user of a web server, which may be a token.
    """
    parts = _parts(address)
    secret = without_credentials(address) != address
    if secret and not (
        parts and parts.scheme.startswith("postgresql") and parts.password is None and not parts.query
    ):
        raise ParamsError(
            f"{ADDRESS} holds a password, which would end up in records: leave it out of the address "
            f"({without_credentials(address)}) and set {USER} and {PASSWORD}"
        )
    return address


def _parts(address: str) -> SplitResult | None:
    try:
        return urlsplit(address)
    except ValueError:
        return None
