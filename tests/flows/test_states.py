"""`python -m flows.states` shows what waits and by which params it differs, and removes and pins it."""

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_inputs import TINY_PARAMS
from workspace import Workspace, tiny_files

from transformer.working_folder import working_folder, write_progress, write_settings

LIST = [sys.executable, "-m", "flows.states"]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = tiny_files(tmp_path / "checkout")
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(TINY_PARAMS))
    workspace.environment["COLUMNS"] = "200"
    return workspace


def waiting(workspace: Workspace, name: str, finished: bool = False, **training: Any) -> Path:
    sections = {"languages": TINY_PARAMS["languages"], "training": {**TINY_PARAMS["training"], **training}}
    with working_folder(workspace.folder / "work" / "training", name) as folder:
        (folder / "state.safetensors").write_bytes(bytes(2_000_000))
        write_settings(folder, {**sections, "torch": "2.13.0", "code": {}, "data": {}})
        write_progress(folder, 15, 40, finished)
    return folder


def test_nothing_waits(workspace: Workspace) -> None:
    assert workspace.run(*LIST) == "no work waits, and no finished state is kept\n"


def test_each_state_shows_how_far_it_is_and_what_differs(workspace: Workspace) -> None:
    waiting(workspace, "a" * 16, seed=2, log_every=7)
    waiting(workspace, "b" * 16, finished=True)
    (workspace.folder / "work" / "training" / ("c" * 16)).mkdir()  # killed before it had written anything
    with working_folder(workspace.folder / "work" / "prepare", "d" * 16) as folder:
        changed = {**TINY_PARAMS["preparation"], "filters": {**TINY_PARAMS["preparation"]["filters"], "length": 9}}
        write_settings(folder, {"preparation": changed})
    lines = workspace.run(*LIST).splitlines()

    def line(letter: str) -> str:
        return "\n".join(line for line in lines if letter * 16 in line)

    assert all(words in line("a") for words in ("train ", "15 of 40", "unfinished", "2.0 MB", "just now"))
    assert "training.seed 2 → 1, training.log_every 7 → 5" in line("a")
    assert "finished" in line("b")
    assert "unfinished" not in line("b")
    assert "→" not in line("b")
    assert "unknown: settings.json is missing" in line("c")
    assert all(words in line("d") for words in ("prepare", "preparation.filters.length 9 → 50"))


def test_states_are_pinned_and_removed_by_name(workspace: Workspace) -> None:
    first, second = waiting(workspace, "a" * 16), waiting(workspace, "b" * 16)
    assert workspace.run(*LIST, "--pin", "a" * 16) == f"{'a' * 16} is pinned\n"
    assert "unfinished, pinned" in workspace.run(*LIST)
    assert workspace.run(*LIST, "--unpin", "a" * 16) == f"{'a' * 16} is no longer pinned\n"
    assert "pinned" not in workspace.run(*LIST).partition("Unfinished work")[0]
    assert workspace.run(*LIST, "--remove", "a" * 16, "b" * 16).count("removed") == 2
    assert not first.exists()
    assert not second.exists()


def test_a_wrong_name_and_one_in_use_are_one_line(workspace: Workspace) -> None:
    folder = waiting(workspace, "a" * 16)
    kept = workspace.run(*LIST, "--remove", "a" * 16, "nothing", succeeds=False)
    assert kept == "error: there is no state 'nothing': python -m flows.states lists those there are\n"
    assert folder.exists()
    with working_folder(folder.parent, folder.name):
        assert "in use" in workspace.run(*LIST)
        told = workspace.run(*LIST, "--remove", "a" * 16, succeeds=False)
        assert told == f"error: {folder} is in use: stop the process that runs in it first\n"
