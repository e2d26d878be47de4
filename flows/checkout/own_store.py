"""The workspace's own MLflow store: mlflow.db, with its artifacts in mlartifacts/ beside it, wherever they are now.

MLflow keeps absolute addresses of artifacts: in a moved checkout they lead nowhere, in a copied one to the original.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import pathname2url, url2pathname

DATABASE, ARTIFACTS = "mlflow.db", "mlartifacts"
FOLDERS = (ARTIFACTS, "mlruns")  # mlruns: of MLflow's experiment Default, to which nothing of ours goes
ADDRESSES = {
    "experiments": ("artifact_location",),
    "runs": ("artifact_uri",),
    "logged_models": ("artifact_location",),
    "model_versions": ("source", "storage_location"),
}
BUSY_SECONDS = 20.0  # the same patience as MLflow's


def bring_addresses_here(workspace: Path) -> int:
    """Make the store of a moved or copied workspace name its own artifacts; returns how many addresses changed.

    Costs a few queries where nothing has moved. A store that can't be read or written is left for MLflow to report.
    """
    database = workspace / DATABASE
    if not database.is_file():
        return 0
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_SECONDS)) as connection, connection:
            changes = list(_changes(connection, workspace))
            for table, column, row, address in changes:
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (address, row))  # noqa: S608  # names of ours
            return len(changes)
    except sqlite3.Error:
        return 0


def _changes(connection: sqlite3.Connection, workspace: Path) -> Iterator[tuple[str, str, int, str]]:
    """(table, column, row id, new address) of each address that leads into another workspace."""
    for table, columns in ADDRESSES.items():
        known = {row[1] for row in connection.execute(f"PRAGMA table_info({table})")}
        for column in known.intersection(columns):
            rows = connection.execute(f"SELECT rowid, {column} FROM {table} WHERE {column} LIKE '%/ml%'")  # noqa: S608
            for row, address in rows.fetchall():
                here = _address_here(address, workspace, always=table == "experiments")
                if here and here != address:
                    yield table, column, row, here


def _address_here(address: str, workspace: Path, always: bool) -> str | None:
    """The same artifacts in this workspace; None if they are on a server, or are really elsewhere."""
    is_uri = address.startswith("file:")
    if not is_uri and not address.startswith("/"):
        return None
    path = Path(url2pathname(urlsplit(address).path) if is_uri else address)
    folders = [place for place, name in enumerate(path.parts) if name in FOLDERS]
    if not folders:
        return None
    here = workspace.joinpath(*path.parts[folders[-1] :])
    # A store that was copied without its artifacts still finds those that it has recorded.
    if not always and path.exists() and not here.exists():
        return None
    return f"file://{pathname2url(str(here))}" if is_uri else str(here)
