"""Unfinished work stays until a person removes it; finished work goes by size and age, and says so."""

import logging
import os
import time
from pathlib import Path

import pytest

from transformer import working_folder as folders
from transformer.errors import DataError
from transformer.working_folder import (
    State,
    pin,
    remove,
    states_below,
    working_folder,
    write_progress,
    write_settings,
)

DAY = 86_400


def left(work: Path, name: str, finished: bool, days: float = 0.0, size: int = 10) -> Path:
    """A working folder that was last used so many days ago."""
    with working_folder(work, name) as folder:
        (folder / "state").write_bytes(b"x" * size)
        write_progress(folder, 7, 9, finished)
    used = time.time() - days * DAY
    os.utime(folder, (used, used))
    return folder


def names(work: Path) -> set[str]:
    return {path.name for path in work.iterdir()}


def test_unfinished_work_stays_however_many_runs_follow_and_however_old_it_is(tmp_path: Path) -> None:
    left(tmp_path, "interrupted", finished=False, days=400)
    for number in range(10):
        left(tmp_path, f"run{number}", finished=False)
    assert names(tmp_path) == {"interrupted", *(f"run{number}" for number in range(10))}


def test_finished_work_goes_by_age(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    left(tmp_path, "old", finished=True, days=31)
    left(tmp_path, "young", finished=True, days=29)
    pin(left(tmp_path, "pinned", finished=True), keep=True)
    os.utime(tmp_path / "pinned", (0, 0))
    left(tmp_path, "next", finished=False)
    assert names(tmp_path) == {"young", "pinned", "next"}
    assert "removed the finished state" in caplog.text
    assert "not used for 30 days" in caplog.text


def test_finished_work_goes_by_size_the_last_used_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "FINISHED_BYTES", 2500)
    for days in (3, 1, 2):
        left(tmp_path, f"{days}", finished=True, days=days, size=1000)
    left(tmp_path, "own", finished=True, size=9000)
    assert names(tmp_path) == {"1", "2", "own"}


def test_one_finished_state_stays_whatever_its_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left(tmp_path, "large", finished=True, size=9000)
    monkeypatch.setattr(folders, "FINISHED_BYTES", 2500)
    left(tmp_path, "next", finished=True)
    assert names(tmp_path) == {"large", "next"}


def test_what_a_process_holds_stays_and_is_not_removed_by_hand(tmp_path: Path) -> None:
    held = left(tmp_path, "held", finished=True, days=31)
    with folders.locked(held / folders.LOCK_FILE):
        left(tmp_path, "next", finished=False)
        with pytest.raises(DataError, match="held is in use: stop the process"):
            remove(held)
    remove(held)
    assert names(tmp_path) == {"next"}


def test_a_state_tells_what_it_is_of(tmp_path: Path) -> None:
    folder = left(tmp_path, "one", finished=False, size=1000)
    write_settings(folder, {"training": {"seed": 1}})
    os.link(folder / "state", folder / "the-same-bytes")
    pin(folder)
    (state,) = states_below(tmp_path)
    assert (state.settings, state.update, state.updates, state.finished, state.pinned) == (
        {"training": {"seed": 1}}, 7, 9, False, True,
    )  # fmt: skip
    assert 1000 <= state.bytes < 1300
    assert state.damaged == []


@pytest.mark.parametrize("name", ["settings.json", "progress.json"])
@pytest.mark.parametrize("content", ["[1", "[1]", "{}", "", '{"sha256_of_the_rest": 1}', "[" * 100_000, None])
def test_what_is_not_as_it_was_written_tells_nothing(tmp_path: Path, name: str, content: str | None) -> None:
    folder = left(tmp_path, "one", finished=True)
    write_settings(folder, {"training": {"seed": 1}})
    written = (folder / name).read_text()
    digit = written.replace('"seed": 1', '"seed": 2').replace('"update": 7', '"update": 6')
    (folder / name).write_text(digit if content is None else content)
    state = State.read(folder)
    assert state.damaged == [name]
    assert state.settings == ({} if name == "settings.json" else {"training": {"seed": 1}})
    assert (state.update, state.finished) == ((7, True) if name == "settings.json" else (None, False))
