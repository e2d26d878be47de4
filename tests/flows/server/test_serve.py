"""`make serve` for real, with one toy deployment: a killed worker, SIGKILL, a restart, Ctrl-C."""

import re
import signal
import sqlite3
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from prefect_server import free_port, until
from serving import Serve, lives


@pytest.fixture
def serving(tmp_path: Path) -> Iterator[Serve]:
    serving = Serve(tmp_path / "workspace")
    serving.start()
    yield serving
    serving.close()


def test_serve_outlives_its_worker_goes_on_after_sigkill_and_stops_cleanly(serving: Serve) -> None:
    for port in (serving.port, serving.mlflow_port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as page:
            assert b"<html" in page.read()
        assert f"http://127.0.0.1:{port}  " in serving.text()

    other = serving.folder.parent / "other"
    other.mkdir()
    taken = f"error: port {serving.port} of 127.0.0.1: Address already in use; choose another one with --port\n"
    assert serving.refused(serving.port, free_port(), other) == (2, taken)
    taken = taken.replace(str(serving.port), str(serving.mlflow_port)).replace("--port", "--mlflow-port")
    assert serving.refused(free_port(), serving.mlflow_port, other) == (2, taken)
    status, message = serving.refused(free_port(), free_port(), serving.folder)
    assert (status, message.count("\n")) == (1, 1)
    assert "another `make serve` runs in this workspace" in message

    serving.trigger()
    until(lambda: serving.holds(1), what="the run")
    (sleeper,), (worker,) = serving.named("sleep 600"), serving.named("prefect worker start")
    worker.kill()
    until(lambda: serving.holds(2), what="the run's second start")
    assert not lives(sleeper)
    assert "worker ended with status -9 and is started again" in serving.text()

    serving.end(signal.SIGKILL)
    serving.start()
    until(lambda: serving.holds(3), what="the run's third start")

    assert serving.end(signal.SIGINT) == 0
    assert re.search(r"\nstopping\nstopped after \d+ s: 1 run will go on at the next start\n$", serving.text())
    with closing(sqlite3.connect(serving.folder / "work" / "prefect" / "prefect.db")) as database:
        (state,) = database.execute("SELECT state_name FROM flow_run").fetchone()
    assert state in ("AwaitingRetry", "Running")  # what the next start goes on with
    assert not list(serving.folder.parent.joinpath("home").rglob("*prefect*"))
