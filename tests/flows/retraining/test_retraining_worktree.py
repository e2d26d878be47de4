"""A retraining's worktree: what it shares, what it leaves alone, and how it ends."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from tiny_inputs import CHECKOUT

from flows.checkout.git import git
from flows.checkout.workspace import main_workspace
from flows.checkout.worktree import FALLBACK_IDENTITY, _locked, checked_out, read_at, resolve
from transformer.errors import ParamsError, UserError

PIPELINE = {
    "stages": {
        "make": {"cmd": "cp params.yaml out.txt", "params": ["training"], "outs": ["out.txt"]},
    }
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with one small stage that has run."""
    folder = tmp_path_factory.mktemp("worktree") / "main"
    folder.mkdir()
    git(folder, "init", "--quiet", "-b", "main")
    dvc(folder, "init", "--quiet")
    (folder / ".gitignore").write_text("/work\n/out.txt\n")
    (folder / ".dvcignore").write_text("/work\n")
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    (folder / "params.yaml").write_text("training: {updates: 1}\n")
    (folder / "work").mkdir()
    (folder / "work" / "state").write_text("resumable")
    dvc(folder, "repro", "--quiet")
    (folder / "reports").mkdir()
    (folder / "reports" / "metrics.json").write_text("{}")
    git(folder, "add", ".")
    git(folder, "-c", "user.name=u", "-c", "user.email=u@example.org", "commit", "--quiet", "-m", "first")
    return folder


@pytest.fixture
def main(untouched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's copy of it with an edited file and a staged one; nobody is named in git."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site-cache"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    folder = tmp_path / "Übersetzung ü&1 50%20"  # git, DVC and the file system take any name
    shutil.copytree(untouched, folder)
    (folder / "params.yaml").write_text("training: {updates: 1}  # being edited\n")
    (folder / "new.txt").write_text("staged")
    git(folder, "add", "new.txt")
    before = state(folder)
    yield folder
    assert state(folder) == before
    assert (folder / "work" / "state").read_text() == "resumable"
    assert git(folder, "worktree", "list").count("\n") == 0


def state(folder: Path) -> list[str]:
    """All that a user would miss: HEAD, branch, index, working tree, configuration."""
    commands = (
        "rev-parse HEAD",
        "symbolic-ref HEAD",
        "status --porcelain",
        "diff --cached",
        "diff",
        "config --list --local",
    )
    return [git(folder, *command.split()) for command in commands]


def dvc(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_results_are_committed_on_a_branch_and_nothing_else_changes(main: Path) -> None:
    head = resolve(main, "HEAD")
    with checked_out(main, head, "abc", "2026-01-31") as worktree:
        assert worktree.folder == main / "work" / "retraining" / "abc"
        assert worktree.branch == "retraining/2026-01-31-abc"
        assert (worktree.folder / "params.yaml").read_text() == "training: {updates: 1}\n"
        assert (worktree.folder / "work" / "state").read_text() == "resumable"
        assert git(worktree.folder, "status", "--porcelain") == ""
        assert main_workspace(worktree.folder) == main
        dvc(worktree.folder, "repro", "--quiet")
        assert (worktree.folder / "out.txt").read_text() == "training: {updates: 1}\n"
        (worktree.folder / "params.yaml").write_text("training: {updates: 2}\n")
        dvc(worktree.folder, "repro")
        (worktree.folder / "reports" / "metrics.json").write_text('{"bleu": 1}')
        (worktree.folder / "stray.txt").write_text("not a result")
        commit = worktree.commit("Retraining")
        assert worktree.commit("again, nothing new") == commit
    assert not worktree.folder.exists()
    assert [path.name for path in (main / "work" / "retraining").iterdir()] == ["abc.lock"]
    assert resolve(main, worktree.branch) == commit
    assert read_at(main, commit, "params.yaml") == "training: {updates: 2}\n"
    changed = git(main, "diff", "--name-only", head, commit).split()
    assert sorted(changed) == ["dvc.lock", "params.yaml", "reports/metrics.json"]
    assert git(main, "log", "-1", "--format=%an <%ae>", commit) == "{name} <{email}>".format(**FALLBACK_IDENTITY)
    # The output that was made in the worktree is in the user's cache.
    dvc(main, "get", ".", "out.txt", "--rev", worktree.branch, "-o", "work/got")
    assert (main / "work" / "got").read_text() == "training: {updates: 2}\n"
    (main / "work" / "got").unlink()


def test_the_users_name_is_the_author(main: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "config").write_text("[user]\nname = Ada\nemail = ada@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "config"))
    with checked_out(main, resolve(main, "HEAD"), "abc", "2026-01-31") as worktree:
        (worktree.folder / "params.yaml").write_text("training: {updates: 2}\n")
        commit = worktree.commit("Retraining")
    assert git(main, "log", "-1", "--format=%an <%ae>", commit) == "Ada <ada@example.org>"


def test_after_a_failure_nothing_is_left(main: Path) -> None:
    with pytest.raises(RuntimeError), checked_out(main, resolve(main, "HEAD"), "abc", "2026-01-31") as worktree:
        raise RuntimeError
    assert not worktree.folder.exists()
    assert git(main, "branch", "--list", "retraining/*") == ""


def test_a_failed_start_leaves_nothing(main: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("flows.checkout.worktree._share_dvc", full)
    with pytest.raises(OSError, match="No space left"), checked_out(main, resolve(main, "HEAD"), "abc", "2026-01-31"):
        pass
    assert not (main / "work" / "retraining" / "abc").exists()
    assert git(main, "branch", "--list", "retraining/*") == ""


def test_params_without_a_result_leave_no_branch_and_a_result_does(main: Path) -> None:
    head = resolve(main, "HEAD")
    for result in (False, True):
        with suppress(RuntimeError), checked_out(main, head, "abc", "2026-01-31") as worktree:
            (worktree.folder / "params.yaml").write_text("training: {updates: 2}\n")
            worktree.commit("params")
            if result:
                dvc(worktree.folder, "repro", "--quiet")
            raise RuntimeError
        left = git(main, "branch", "--list", "retraining/*", "--format=%(refname:short)")
        assert left == ("retraining/2026-01-31-abc" if result else "")


def test_a_copied_workspace_does_not_work_in_its_originals_worktree(main: Path, tmp_path: Path) -> None:
    head = resolve(main, "HEAD")
    with checked_out(main, head, "abc", "2026-01-31") as original:
        shutil.copytree(main, tmp_path / "copy", symlinks=True)
        with checked_out(tmp_path / "copy", head, "abc", "2026-01-31") as worktree:
            (worktree.folder / "reports" / "metrics.json").write_text('{"bleu": 1}')
            commit = worktree.commit("in the copy")
        assert resolve(tmp_path / "copy", worktree.branch) == commit
        assert resolve(main, original.branch) == head
        assert git(original.folder, "status", "--porcelain") == ""


def hold(main: Path, inside: "multiprocessing.sharedctypes.Synchronized[int]", most: "list[int]") -> None:
    for _ in range(20):
        with _locked(main / "work" / "retraining" / "abc"):
            with inside.get_lock():
                inside.value += 1
                most[0] = max(most[0], inside.value)
            time.sleep(0.002)
            with inside.get_lock():
                inside.value -= 1


def test_of_many_that_want_a_worktree_one_has_it(tmp_path: Path) -> None:
    (tmp_path / "work" / "retraining").mkdir(parents=True)
    context = multiprocessing.get_context("spawn")  # other tests have left threads here, with which a fork may fail
    inside, most = context.Value("i", 0), context.Array("i", 1)
    processes = [context.Process(target=hold, args=(tmp_path, inside, most)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0] * 4
    assert most[0] == 1


def crash(main: Path, entered: "multiprocessing.synchronize.Event") -> None:
    with checked_out(main, resolve(main, "HEAD"), "abc", "2026-01-31") as worktree:
        (worktree.folder / "params.yaml").write_text("training: {updates: 2}\n")
        worktree.commit("params")
        (worktree.folder / "half-done").write_text("")
        entered.set()
        time.sleep(60)


@pytest.mark.parametrize("torn", [False, True], ids=["whole", "torn"])
def test_after_a_crash_the_same_name_goes_on(main: Path, torn: bool) -> None:
    context = multiprocessing.get_context("fork")
    entered = context.Event()
    process = context.Process(target=crash, args=(main, entered))
    process.start()
    assert entered.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    folder = main / "work" / "retraining" / "abc"
    administration = Path(git(folder, "rev-parse", "--absolute-git-dir"))
    (administration / "index.lock").write_text("")
    if torn:
        (administration / "index").unlink()
    with checked_out(main, resolve(main, "HEAD"), "abc", "2026-02-01") as worktree:
        assert worktree.branch == "retraining/2026-01-31-abc"
        assert (worktree.folder / "half-done").exists() != torn
        assert (worktree.folder / "params.yaml").read_text() == "training: {updates: 2}\n"
        (worktree.folder / "reports" / "metrics.json").write_text("{}\n")
        worktree.commit("results")


def test_two_at_once(main: Path) -> None:
    head = resolve(main, "HEAD")
    with checked_out(main, head, "one", "2026-01-31") as one, checked_out(main, head, "two", "2026-01-31") as two:
        for number, worktree in enumerate((one, two)):
            (worktree.folder / "params.yaml").write_text(f"training: {{updates: {number}}}\n")
        running = [
            subprocess.Popen([sys.executable, "-m", "dvc", "repro", "--quiet"], cwd=worktree.folder)
            for worktree in (one, two)
        ]
        assert [process.wait(120) for process in running] == [0, 0]
        commits = [worktree.commit("results") for worktree in (one, two)]
    locks = [yaml.safe_load(read_at(main, commit, "dvc.lock"))["stages"]["make"] for commit in commits]
    assert locks[0]["params"] != locks[1]["params"]


def test_relative_remotes_lead_to_the_same_place(main: Path, tmp_path: Path) -> None:
    dvc(main, "remote", "add", "--local", "-d", "store", "../store")
    with checked_out(main, resolve(main, "HEAD"), "abc", "2026-01-31") as worktree:
        assert Path(dvc(worktree.folder, "remote", "list").split()[1]).resolve() == tmp_path / "store"
        dvc(worktree.folder, "repro")
        dvc(worktree.folder, "push")
    assert any((tmp_path / "store").rglob("*"))


def test_abandoned_worktrees_are_cleared_away(main: Path) -> None:
    head = resolve(main, "HEAD")
    old, recent = (main / "work" / "retraining" / name for name in ("old", "recent"))
    for folder in (old, recent):
        git(main, "worktree", "add", "--quiet", "--detach", str(folder), head)
    os.utime(old, (0, 0))
    with checked_out(main, head, "abc", "2026-01-31"):
        assert not old.exists()
        assert recent.exists()
    git(main, "worktree", "remove", str(recent))


def test_what_is_not_there_is_named_in_one_line(main: Path, tmp_path: Path) -> None:
    for revision in ("no-such", "--all", ""):
        with pytest.raises(ParamsError, match=r"revision: .* is not a commit"):
            resolve(main, revision)
    with pytest.raises(ParamsError, match=r"presets/x.yaml is not in [0-9a-f]{10}"):
        read_at(main, resolve(main, "HEAD"), "presets/x.yaml")
    with pytest.raises(ParamsError, match="is not a git checkout"):
        resolve(tmp_path, "HEAD")
    with pytest.raises(UserError, match="git rev-parse: fatal: not a git repository"):
        git(tmp_path, "rev-parse", "HEAD")


def test_the_ignored_work_folder_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text((CHECKOUT / ".gitignore").read_text())
    (tmp_path / "work").symlink_to(tmp_path)
    git(tmp_path, "init", "--quiet")
    assert "work" not in git(tmp_path, "status", "--porcelain")
