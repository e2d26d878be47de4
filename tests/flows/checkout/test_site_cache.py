"""DVC unpickles from its site cache: it is the user's own, however DVC is started, and an open one is refused."""

import ast
import os
import pickle
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from tiny_inputs import CHECKOUT

from flows.checkout.site_cache import VARIABLE, configure, configured, default_site_cache, use_private_site_cache
from transformer.errors import UserError
from transformer.files import private_folder


class Payload:
    """What another user would have us unpickle."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user without any setting of DVC's."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv(VARIABLE, raising=False)
    return private_folder(tmp_path / "home")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A DVC repository with one file in its cache."""
    folder = tmp_path / "repository"
    folder.mkdir()
    dvc(folder, "init", "--no-scm")
    (folder / "file.txt").write_text("text")
    dvc(folder, "add", "file.txt")
    return folder


def dvc(folder: Path, *arguments: str, **environment: str) -> str:
    """What a person types, with the environment of this test's user."""
    settings = {VARIABLE: str(folder.parent / "set-up"), "DVC_NO_ANALYTICS": "true", **environment}
    kept = {**os.environ, **{name: value for name, value in settings.items() if value}}
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, env=kept, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_users_own_folder_is_made_and_shut(home: Path, tmp_path: Path) -> None:
    folder = use_private_site_cache(tmp_path)
    assert folder == home / ".cache" / "attention-pipeline" / "dvc" == Path(os.environ[VARIABLE])
    assert [path.stat().st_mode & 0o777 for path in (folder, folder.parent)] == [0o700, 0o700]
    assert use_private_site_cache(tmp_path) == folder


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o711, 0o1777])
def test_one_that_others_can_reach_is_refused(mode: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = private_folder(tmp_path / "shared")
    monkeypatch.setenv(VARIABLE, str(shared))
    assert use_private_site_cache(tmp_path) == shared
    shared.chmod(mode)
    with pytest.raises(UserError, match=rf"site cache {shared} is open to other users.*rm -r.*{VARIABLE}"):
        use_private_site_cache(tmp_path)


def test_one_of_somebody_else_or_in_an_open_folder_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = private_folder(tmp_path / "open" / "site")
    monkeypatch.setenv(VARIABLE, str(folder))
    folder.parent.chmod(0o777)
    with pytest.raises(UserError, match="where others could put another one in its place"):
        use_private_site_cache(tmp_path)
    folder.parent.chmod(0o1777)  # as /tmp: others can't rename what is not theirs
    use_private_site_cache(tmp_path)
    own = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: own + 1)
    with pytest.raises(UserError, match="belongs to another user"):
        use_private_site_cache(tmp_path)


def test_dvc_executes_what_lies_in_a_shared_one_and_we_refuse_it(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, mark = tmp_path / "shared", tmp_path / "executed"
    (repository / "file.txt").unlink()
    dvc(repository, "checkout", **{VARIABLE: str(shared)})
    (links,) = shared.glob("repo/*/links/cache.db")
    assert shared.stat().st_mode & 0o002  # DVC makes it so
    with closing(sqlite3.connect(links)) as database:
        poison = (pickle.dumps(Payload(mark)),)
        assert database.execute("UPDATE Cache SET value = ?, mode = 4", poison).rowcount == 1
        database.commit()
    (repository / "file.txt.dvc").rename(tmp_path / "file.txt.dvc")  # so that the link to it is looked at
    dvc(repository, "checkout", **{VARIABLE: str(shared)})
    assert mark.exists(), "DVC does not unpickle there any more: this protection may go"
    monkeypatch.setenv(VARIABLE, str(shared))
    for program in ("flows.pipeline", "flows.stages"):
        done = subprocess.run(
            [sys.executable, "-m", program],
            cwd=repository,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode != 0
        assert f"error: DVC's site cache {shared} is open to other users" in done.stderr, program
        assert "Traceback" not in done.stderr


def test_dvc_typed_by_a_person_uses_it_once_the_checkout_is_set_up(repository: Path, home: Path) -> None:
    assert "/var/tmp/dvc" in dvc(repository, "doctor", **{VARIABLE: ""})  # why all this
    assert configure(repository) == default_site_cache()
    assert f"site_cache_dir: {home}/.cache/attention-pipeline/dvc/" in dvc(repository, "doctor", **{VARIABLE: ""})
    assert default_site_cache().stat().st_mode & 0o077 == 0
    assert configure(repository) is None  # what a person has written there stays
    assert configured(repository) == str(default_site_cache())


def test_a_home_that_dvc_cannot_write_down_gets_a_folder_that_it_can(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(private_folder(tmp_path / "Übersetzer")))
    assert str(default_site_cache()).isascii()
    assert default_site_cache().parent.name.endswith(str(os.getuid()))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a b 50%20 ü&1"))
    assert str(default_site_cache()).isascii()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a b, 50%20 'c'"))
    configure(repository)
    assert f"site_cache_dir: {default_site_cache()}/" in dvc(repository, "doctor", **{VARIABLE: ""})
    assert configured(repository) == str(default_site_cache())


def test_whatever_starts_dvc_asks_first() -> None:
    starts = {"Repo", "DVC", "_dvc"}
    for path in sorted((CHECKOUT / "flows").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        called = {
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        }
        words = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if called & starts or {"-m", "dvc"} <= words:
            assert "use_private_site_cache" in called, f"{path} starts DVC"
