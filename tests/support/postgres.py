"""A real PostgreSQL cluster in a temporary folder, on a loopback port that the system chose."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg2
import pytest
from prefect_server import free_port, until

DEBIAN = Path("/usr/lib/postgresql")
SUPERUSER = "postgres"


class Postgres:
    """A running cluster."""

    def __init__(self, port: int) -> None:
        self.port = port

    def create(self, database: str) -> str:
        """Create a database; its `user@host:port/name`, to which callers add scheme and driver."""
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user=SUPERUSER, dbname="postgres")
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f'CREATE DATABASE "{database}"')
        connection.close()
        return f"{SUPERUSER}@127.0.0.1:{self.port}/{database}"

    def answers(self) -> bool:
        """Whether it takes connections."""
        try:
            psycopg2.connect(host="127.0.0.1", port=self.port, user=SUPERUSER, dbname="postgres").close()
        except psycopg2.OperationalError:
            return False
        return True


def _binaries() -> Path:
    found = shutil.which("postgres")
    places = [Path(found).parent] if found else sorted(DEBIAN.glob("*/bin"))
    if not places:
        pytest.skip("PostgreSQL is not installed (Debian: apt install postgresql)")
    return places[-1]


def _user() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.getuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return SUPERUSER if SUPERUSER in names else "nobody"


@contextmanager
def postgres() -> Iterator[Postgres]:
    """A cluster without passwords, gone at the end; skips the test where PostgreSQL is not installed."""
    binaries, user, port = _binaries(), _user(), free_port()
    with tempfile.TemporaryDirectory(prefix="postgres-") as name:  # pytest's own folder is closed to other users
        data, log = Path(name) / "data", Path(name) / "log"
        if user:
            shutil.chown(name, user)
        initialise = [
            str(binaries / "initdb"),
            "--auth=trust",
            f"--username={SUPERUSER}",
            "--no-sync",
            "-D",
            str(data),
        ]
        subprocess.run(initialise, user=user, cwd=name, stdout=subprocess.DEVNULL, check=True, timeout=120)
        settings = ["fsync=off", "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={name}"]
        options = [word for setting in settings for word in ("-c", setting)]
        with log.open("w") as stream:
            command = [binaries / "postgres", "-D", data, *options]
            process = subprocess.Popen(command, user=user, cwd=name, stdout=stream, stderr=stream)
        cluster = Postgres(port)
        try:
            until(lambda: cluster.answers() or process.poll() is not None, what="PostgreSQL")
            assert process.poll() is None, log.read_text()
            yield cluster
        finally:
            process.send_signal(signal.SIGINT)  # does not wait for clients
            process.wait(60)
