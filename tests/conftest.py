"""A tiny workspace: synthetic sentence pairs that a tiny model can learn, and params to match."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tiny_inputs import TINY_PARAMS, once_a_test_run

from transformer.params import Params, params_from

if TYPE_CHECKING:
    from prefect_server import PrefectServer
    from workspace import Workspace

os.environ["TRANSFORMER_SIGNING_KEY"] = ""  # the user's own key signs nothing here

# A shell that starts pytest in the background has it ignore Ctrl-C, and with it the commands whose end is tested.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """One more than cores, as tests often wait; at most four, as their servers and processes want cores too."""
    return min(4, (os.cpu_count() or 1) + 1)


# What waits for processes of its own: first, the longest in front, so that none is left alone with one at the end.
SLOW = (
    "cuda_training", "end_to_end", "pipeline", "ranks", "ablations", "serve", "tracking", "lineage", "automations",
    "resume",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Slow files first, in the order above."""
    items.sort(key=lambda item: [word not in item.path.stem for word in SLOW])


# What would have the tests that follow ask another server or checkout; which they are depends on the machine's load.
ADDRESSES = ("MLFLOW_", "PREFECT_", "TRANSFORMER_", "GIT_")


@pytest.fixture(autouse=True)
def addresses_left_alone() -> Iterator[None]:
    """A test fails that leaves them changed in the environment, and they are put right for the others."""
    before = dict(os.environ)
    yield
    after = dict(os.environ)
    changed = {name for name, _ in before.items() ^ after.items() if name.startswith(ADDRESSES)}
    for name in changed:
        os.environ.pop(name, None)
        os.environ.update({name: before[name]} if name in before else {})
    assert not changed, f"left changed for the tests that follow: {', '.join(sorted(changed))}"


@pytest.fixture
def tiny_params() -> Params:
    """Params that train in a second."""
    return params_from(TINY_PARAMS, "tiny")


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database as Prefect's server leaves it; copied, it spares a new server five seconds of migrations."""

    def migrate(home: Path) -> None:
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        subprocess.run(command, env=os.environ | {"PREFECT_HOME": str(home)}, capture_output=True, check=True)

    return once_a_test_run(tmp_path_factory, "prefect", migrate) / "prefect.db"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's SQLite store, migrated and empty; to be copied, as the migrations take seconds."""

    from mlflow_server import write_empty_store  # here: MLflow takes seconds to import and few tests need it

    return once_a_test_run(tmp_path_factory, "mlflow", write_empty_store) / "mlflow.db"


@pytest.fixture(scope="module")
def prefect_server(tmp_path_factory: pytest.TempPathFactory, prefect_database: Path) -> "Iterator[PrefectServer]":
    """A running Prefect server of the module's own."""
    from prefect_server import PrefectServer  # here: Prefect takes seconds to import and few tests need it

    server = PrefectServer(tmp_path_factory.mktemp("prefect"), prefect_database)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> "Workspace":
    """A tiny checkout in which `dvc repro` has run, its results committed and recorded in MLflow.

    Shared by all tests and never to be changed: work in `reproduced.copy_to(tmp_path / "checkout")`.
    """
    from workspace import STAGES, Workspace, tiny_checkout

    def reproduce(folder: Path) -> None:
        made = tiny_checkout(folder / "checkout")
        assert made.repro() == STAGES
        made.send()
        made.git("add", ".")
        made.git("commit", "-m", "results")

    return Workspace(once_a_test_run(tmp_path_factory, "reproduced", reproduce) / "checkout")
