"""What the tests of serving share: a tiny model behind the real server, in a thread of this process or its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Server
from tiny_model import write_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "model"
    write_tiny_model(folder)
    return folder


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with Server(model) as server:
        yield server
