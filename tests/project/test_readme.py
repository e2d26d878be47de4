"""What the README shows under "Use your model" runs, with the default model where it is, or else with a small one."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documented import blocks
from prefect_server import free_port
from tiny_inputs import CHECKOUT
from tiny_model import write_uneven_model

from transformer.files import sha256_of
from transformer.model.folder import check_files

pytestmark = pytest.mark.slow
README, SECTION = "README.md", "## Use your model"
DEFAULT = "8466b498fb69d275403c7e17dafa260167fc0b1330fbb0838ff6e54ffef7436b"  # SHA-256, which the README shows too
SERVE = "transformer serve &"


class Folder:
    """A folder with a model, where a reader would be."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.model = folder / "models" / "averaged"
        trained = CHECKOUT / "models" / "averaged"
        self.default = trained.is_dir() and sha256_of(trained) == DEFAULT
        if self.default:
            check_files(trained)
            shutil.copytree(trained, self.model)
        else:
            write_uneven_model(self.model, max_positions=512)  # which other programs go up to
        self.environment = os.environ | {
            "PYTHONPATH": str(CHECKOUT),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HF_HUB_OFFLINE": "1",
        }

    def run(self, command: list[str]) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=200
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def agrees(self, output: str, shown: str) -> bool:
        """With the default model every letter, scores to four digits, with another one the number of lines."""
        if self.default:
            return rounded(output) == rounded(shown)
        return output.count("\n") == shown.count("\n")


def rounded(text: str) -> str:
    return re.sub(r"\d\.\d{5,}", lambda number: f"{float(number[0]):.4f}", text)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    (tmp_path / "models").mkdir()
    return Folder(tmp_path)


def commands(block: str) -> list[tuple[str, str]]:
    """The commands of a block, each with the output below it."""
    found = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return list(zip(found[::2], found[1::2], strict=True))


def test_the_command_line(folder: Folder) -> None:
    ((command, shown),) = commands(blocks(README, SECTION, "")[0])
    assert folder.agrees(folder.run(["bash", "-c", command]), shown)


def test_the_server(folder: Folder) -> None:
    (start, greeting), (ask, shown) = commands(blocks(README, SECTION, "")[1])
    assert start == SERVE
    port = str(free_port())
    command = [*start.removesuffix(" &").split(), "--port", port]
    server = subprocess.Popen(command, cwd=folder.folder, env=folder.environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        said = server.stdout.readline() + server.stdout.readline()
        assert folder.agrees(said.replace(port, "8000"), greeting)
        answer = folder.run(["bash", "-c", ask.replace("8000", port)])
        assert folder.agrees(f"{answer}\n", shown)
        assert json.loads(answer).keys() == json.loads(shown).keys()
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@pytest.mark.parametrize(("place", "to"), [(0, "ctranslate2"), (1, "huggingface")])
def test_the_programs(folder: Folder, place: int, to: str) -> None:
    pytest.importorskip({"huggingface": "transformers"}.get(to, to))
    text = (CHECKOUT / README).read_text(encoding="utf-8")
    assert f"`transformer export --to {to}`" in text
    folder.run(["transformer", "export", "--to", to])
    program, shown = blocks(README, SECTION, "python")[place], blocks(README, SECTION, "")[2]
    assert f'"models/averaged-{to}"' in program
    assert folder.agrees(folder.run([sys.executable, "-c", program]), shown)
