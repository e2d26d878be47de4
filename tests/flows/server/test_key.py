"""Prefect's key is made once and stays its user's; state is shut to others however it was before."""

import os
import stat
from pathlib import Path

import pytest

from flows.server.key import key_file, server_key
from transformer.errors import DataError, ParamsError
from transformer.files import open_private, private_folder, shut_to_others, write_private


@pytest.fixture(autouse=True)
def careless_user(monkeypatch: pytest.MonkeyPatch) -> object:
    """Without a key of their own, and with a umask that lets everybody read and write."""
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_made_once_and_for_its_user_alone(tmp_path: Path) -> None:
    key = server_key(tmp_path)
    assert key.startswith("admin:")
    assert len(key) > 40
    assert mode(key_file(tmp_path)) == 0o600
    assert server_key(tmp_path) == key
    assert server_key(private_folder(tmp_path / "other")) != key
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["key"]


@pytest.mark.parametrize("open_to", [0o604, 0o640, 0o644, 0o622])
def test_one_that_others_could_read_is_not_used(tmp_path: Path, open_to: int) -> None:
    server_key(tmp_path)
    key_file(tmp_path).chmod(open_to)
    with pytest.raises(DataError, match=r"key can be read by others: delete it"):
        server_key(tmp_path)


@pytest.mark.parametrize("content", ["", "admin", "admin: x", "admin:ü", "a:b\nc:d"])
def test_a_file_without_a_key_and_a_wrong_one_of_the_user_are_refused(
    tmp_path: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_private(key_file(tmp_path), content)
    with pytest.raises(DataError, match="holds no key"):
        server_key(tmp_path)
    if content:
        monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", content)
        with pytest.raises(ParamsError, match="must be user:password"):
            server_key(tmp_path)


def test_the_users_own_one_counts_and_is_what_the_export_line_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server_key(tmp_path)
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert server_key(tmp_path) == "me:mine" == key_file(tmp_path).read_text().strip()
    assert mode(key_file(tmp_path)) == 0o600


def test_state_is_shut_to_others(tmp_path: Path) -> None:
    old = tmp_path / "old"
    (old / "inner").mkdir(parents=True)
    (old / "inner" / "file").touch()
    outside = tmp_path / "outside"
    outside.touch()
    (old / "link").symlink_to(outside)
    shut_to_others(old)
    assert [mode(path) for path in (old, old / "inner", old / "inner" / "file")] == [0o700, 0o700, 0o600]
    assert mode(outside) == 0o666
    with open_private(tmp_path / "log") as log:
        log.write("x")
    assert mode(tmp_path / "log") == 0o600
    (tmp_path / "there").mkdir(0o777)
    assert mode(private_folder(tmp_path / "there")) == mode(private_folder(tmp_path / "new")) == 0o700
