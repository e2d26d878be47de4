"""Runs of a deployment on a real server and worker: missed ones, deleted ones, and that no two of them overlap."""

import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.states import Cancelled, Scheduled
from prefect_server import PrefectServer, Worker, until
from tiny_inputs import CHECKOUT
from workspace import Workspace

POOL = "turns"
# Writes down when it runs. Told to end, it takes longer than the next run takes to begin: training saves its state.
TOY = """
import time
from pathlib import Path
from prefect import flow, runtime
from prefect.states import Cancelled
from flows.pipeline import wanted
from flows.retraining.turn import missed_too_often, one_at_a_time

wanted.POLL_SECONDS = 0.5

def note(word):
    with open("notes.txt", "a") as notes:
        notes.write(f"{word} {runtime.flow_run.id}\\n")

@flow
def toy(catch_up: int = 1):
    if missed_too_often(catch_up):
        return Cancelled(message="skipped")
    with wanted.while_wanted() as check, one_at_a_time(Path.cwd()):
        note("begin")
        try:
            while not Path("go").exists():
                time.sleep(0.1)
            check()
            note("promote")
        except BaseException:
            time.sleep(12)
            raise
        finally:
            note("end")
"""


class Toys:
    """The toy deployment, its runs and what they have written."""

    def __init__(self, client: SyncPrefectClient, folder: Path) -> None:
        self.client, self.folder = client, folder
        (folder / "toy.py").write_text(TOY)
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        self.deployment: UUID = client.create_deployment(
            client.create_flow_from_name("toy"),
            "toy",
            entrypoint="toy.py:toy",
            work_pool_name=POOL,
            concurrency_limit=1,
            concurrency_options=ConcurrencyLimitConfig(limit=1, collision_strategy="ENQUEUE").model_dump(
                exclude={"limit"}
            ),
            pull_steps=[{"prefect.deployments.steps.set_working_directory": {"directory": str(folder)}}],
        )

    def trigger(self, **parameters: Any) -> UUID:
        return self.client.create_flow_run_from_deployment(self.deployment, parameters=parameters).id

    def scheduled(self, ago: timedelta, **parameters: Any) -> UUID:
        """A run as the deployment's schedule makes it, whose time has passed."""
        run = self.client.create_flow_run_from_deployment(
            self.deployment, parameters=parameters, state=Scheduled(scheduled_time=datetime.now(UTC) - ago)
        )
        return run.id

    def notes(self) -> list[tuple[str, UUID]]:
        path = self.folder / "notes.txt"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(line.split()[0], UUID(line.split()[1])) for line in lines]

    def state(self, run: UUID) -> str:
        return self.client.read_flow_run(run).state_name or ""

    def until_noted(self, word: str, run: UUID) -> None:
        until(lambda: (word, run) in self.notes(), 90, f"{word} of {run}: {self.notes()}")


@pytest.fixture(scope="module")
def toys(prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toys]:
    folder = tmp_path_factory.mktemp("turns") / "workspace"
    folder.mkdir()
    made = Toys(prefect_server.client, folder)
    worker = Worker(prefect_server, POOL, folder, Workspace(folder).environment | {"PYTHONPATH": str(CHECKOUT)})
    worker.start()
    yield made
    worker.end(signal.SIGTERM)


@pytest.fixture(autouse=True)
def fresh(toys: Toys) -> None:
    for name in ("notes.txt", "go"):
        (toys.folder / name).unlink(missing_ok=True)


@pytest.mark.parametrize("how", ["deleted", "ended by hand"])
def test_a_run_that_is_not_wanted_any_more_stops_and_the_next_one_waits_for_its_process(toys: Toys, how: str) -> None:
    first = toys.trigger()
    toys.until_noted("begin", first)
    second = toys.trigger()
    if how == "deleted":
        toys.client.delete_flow_run(first)
    else:
        toys.client.set_flow_run_state(first, Cancelled(), force=True)
    toys.until_noted("begin", second)
    (toys.folder / "go").touch()
    until(lambda: toys.state(second) == "Completed", 60, "the second run")
    assert toys.notes() == [(w, first) for w in ("begin", "end")] + [(w, second) for w in ("begin", "promote", "end")]
    if how != "deleted":
        assert toys.state(first) == "Cancelled"


def test_of_missed_runs_the_last_is_made_up_for(toys: Toys, prefect_server: PrefectServer) -> None:
    (toys.folder / "go").touch()
    runs = [toys.scheduled(timedelta(days=days)) for days in (21, 14, 7)]
    mark_as_scheduled(prefect_server, runs)
    by_hand = toys.trigger()
    until(lambda: toys.state(by_hand) == toys.state(runs[2]) == "Completed", 120, "the last run and the one by hand")
    until(lambda: [toys.state(run) for run in runs] == ["Cancelled", "Cancelled", "Completed"], 60, "the others")
    time.sleep(3)
    assert {run for _, run in toys.notes()} == {runs[2], by_hand}


def test_how_many_are_made_up_for_is_a_parameter(toys: Toys, prefect_server: PrefectServer) -> None:
    (toys.folder / "go").touch()
    none = [toys.scheduled(timedelta(days=days), catch_up=0) for days in (14, 7)]
    mark_as_scheduled(prefect_server, none)
    until(lambda: {toys.state(run) for run in none} == {"Cancelled"}, 90, "both")
    assert toys.notes() == []
    on_time = toys.scheduled(timedelta(seconds=-10), catch_up=0)  # ahead
    mark_as_scheduled(prefect_server, [on_time])
    until(lambda: toys.state(on_time) == "Completed", 90, "the run that was not missed")


def mark_as_scheduled(server: PrefectServer, runs: list[UUID]) -> None:
    """As the scheduler does; its own runs lie in the future, and no client may set this."""
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(server.folder / "home" / "prefect.db", timeout=30)) as database, database:
        marks = ",".join("?" * len(runs))
        sql = f"UPDATE flow_run SET auto_scheduled = 1 WHERE id IN ({marks})"
        assert database.execute(sql, [str(run) for run in runs]).rowcount == len(runs)
