"""A checkout of one revision for one retraining: below `work/retraining`, never the user's own working tree.

It shares the user's DVC cache, DVC remotes and `work` folder, is on a branch of its own, and after a crash is
found again by its name.
"""

import io
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from configobj import ConfigObj
from dvc.config import Config

from flows.checkout.git import Git, git
from flows.checkout.workspace import LOCK, PARAMS, REGISTRY, REPORTS, WORK, WORKSPACE_VARIABLE
from transformer.errors import DataError, ParamsError, UserError
from transformer.files import atomic_path, locked, private_folder

FOLDER = f"{WORK}/retraining"
BRANCHES = "retraining"
COMMITTED = (PARAMS, REGISTRY, LOCK, REPORTS)
# Commits need an author: used when git has none configured. The user's configuration is never changed.
FALLBACK_IDENTITY = {"name": "Scheduled retraining", "email": "retraining@localhost"}
ABANDONED_SECONDS = 14 * 86400.0
RESULTS = (LOCK, REPORTS)
COMMON_FOLDER = ("rev-parse", "--path-format=absolute", "--git-common-dir")


@dataclass(frozen=True)
class Worktree:
    """Where it is and the branch that it is on."""

    folder: Path
    branch: str

    def commit(self, message: str) -> str:
        """Commit those of the files a retraining may change that did change; returns the branch's commit."""
        present = [path for path in COMMITTED if (self.folder / path).exists()]
        git(self.folder, "add", "--", *present)
        if git(self.folder, "diff", "--cached", "--name-only"):
            git(
                self.folder, "commit", "--quiet", "--no-gpg-sign", "-m", message, environment=_identified(self.folder)
            )
        return git(self.folder, "rev-parse", "HEAD")


def resolve(main: Path, revision: str) -> str:
    """The commit that a revision names.

    Raises:
        ParamsError: there is none.
    """
    if not (main / ".git").exists():
        raise ParamsError(f"{main} is not a git checkout: a retraining needs one for its worktree")
    try:
        return git(main, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
    except UserError:
        raise ParamsError(f"revision: {revision!r} is not a commit of {main}: see git log --all") from None


def read_at(main: Path, commit: str, path: str) -> str:
    """The text of a file at a commit.

    Raises:
        ParamsError: it is not there.
    """
    try:
        return git(main, "show", f"{commit}:{path}") + "\n"
    except UserError:
        raise ParamsError(f"{path} is not in {commit[:10]}") from None


@contextmanager
def checked_out(main: Path, commit: str, name: str, date: str) -> Iterator[Worktree]:
    """The worktree `name` during the body, at `commit` or where a crash left it.

    Processes started in the body record their runs in the main workspace. A second process that asks for the same
    name waits. The branch `retraining/<date>-<name>` stays, unless no stage has left a result on it.

    Raises:
        UserError: git fails; the message is git's own.
    """
    folder = main.resolve() / FOLDER / name
    private_folder(main / WORK)
    private_folder(folder.parent)
    with _locked(folder):
        _remove_abandoned(main)
        former = os.environ.get(WORKSPACE_VARIABLE)
        os.environ[WORKSPACE_VARIABLE] = str(main.resolve())
        try:
            yield _add(main, folder, commit, f"{BRANCHES}/{date}-{name}")
        finally:
            _restore_environment(former)
            empty = not _has_results(main, folder, commit)
            _remove(main, folder)
            if empty and (branch := _branch_of(main, folder)):
                git(main, "branch", "--quiet", "-D", branch)


@contextmanager
def detached(main: Path, folder: Path, commit: str, keep: bool) -> Iterator[None]:
    """A worktree of the commit at `folder` during the body, which shares nothing but git; `keep` leaves it behind.

    Raises:
        DataError: `folder` exists.
        UserError: git fails; the message is git's own.
    """
    if folder.exists():
        raise DataError(
            f"{folder} exists: another reproduction runs, or one was kept; git worktree remove --force it"
        )
    git(main, "worktree", "add", "--quiet", "--detach", str(folder), commit)
    try:
        yield
    finally:
        if not keep:
            _remove(main, folder)


def _restore_environment(former: str | None) -> None:
    if former is None:
        del os.environ[WORKSPACE_VARIABLE]
    else:
        os.environ[WORKSPACE_VARIABLE] = former


@contextmanager
def _locked(folder: Path, wait: bool = True) -> Iterator[bool]:
    """Hold the worktree's lock during the body; yields False if another process holds it.

    The empty file stays: removed, it would still be what waits for it holds, beside whoever makes a new one.
    """
    with locked(folder.with_name(f"{folder.name}.lock"), wait) as held:
        yield held


def _add(main: Path, folder: Path, commit: str, branch: str) -> Worktree:
    known = _branch_of(main, folder)
    if not _is_whole(main, folder):
        _remove(main, folder)
        if known:
            git(main, "worktree", "add", "--quiet", str(folder), known)
        else:
            git(main, "worktree", "add", "--quiet", "-b", branch, str(folder), commit)
    # Left by a killed process; we hold the worktree's lock, so nobody else uses them.
    Path(git(folder, "rev-parse", "--absolute-git-dir"), "index.lock").unlink(missing_ok=True)
    (folder / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)
    link = folder / WORK
    if not link.is_symlink():
        link.symlink_to(main.resolve() / WORK, target_is_directory=True)
    _share_dvc(main, folder)
    return Worktree(folder, known or branch)


def _branch_of(main: Path, folder: Path) -> str:
    """The worktree's branch; empty if there is none."""
    return git(main, "for-each-ref", "--format=%(refname:short)", f"refs/heads/{BRANCHES}/*-{folder.name}")


def _has_results(main: Path, folder: Path, commit: str) -> bool:
    """Whether a stage has left anything since `commit`, in a commit of the branch or not committed yet."""
    try:
        branch = _branch_of(main, folder)
        made = git(main, "diff", "--name-only", commit, branch, "--", *RESULTS) if branch else ""
        return bool(made or git(folder, "status", "--porcelain", "--", *RESULTS))
    except (UserError, OSError):  # the worktree was never there
        return False


def _is_whole(main: Path, folder: Path) -> bool:
    """Whether git finished checking it out, which writes the index last, from this repository and not from one that
    the workspace was copied from.
    """
    if not (folder / ".git").is_file():
        return False
    try:
        own, common = git(folder, "rev-parse", "--path-format=absolute", "--git-dir", "--git-common-dir").splitlines()
        return Path(own, "index").exists() and Path(common).samefile(git(main, *COMMON_FOLDER))
    except (UserError, OSError):
        return False


def _share_dvc(main: Path, folder: Path) -> None:
    """Use the main workspace's cache and remotes; relative paths in its configuration would be wrong from here.

    DVC itself writes only ASCII, and folders have other names.
    """
    shared = Config(str(main / ".dvc"), validate=False).read()
    cache = {"dir": str(main.resolve() / ".dvc" / "cache"), **shared.get("cache", {})}
    remotes = {f'remote "{name}"': options for name, options in shared.get("remote", {}).items()}
    sections = {"core": shared.get("core", {}), **remotes, "cache": cache}
    local = ConfigObj(sections, encoding="utf-8", interpolation=False, list_values=True)
    text = io.BytesIO()
    local.write(text)
    with atomic_path(folder / ".dvc" / "config.local") as temporary:
        temporary.write_bytes(text.getvalue())


def _remove(main: Path, folder: Path) -> None:
    if (folder / WORK).is_symlink():
        (folder / WORK).unlink()  # first, so that nothing can follow it
    shutil.rmtree(folder, ignore_errors=True)
    for entry in Path(git(main, *COMMON_FOLDER), "worktrees").glob("*"):
        if _is_of_another_repository(entry):
            shutil.rmtree(entry)  # git itself forgets only worktrees that are gone
    git(main, "worktree", "prune")


def _is_of_another_repository(entry: Path) -> bool:
    """Whether the worktree that git has noted here belongs to the repository that this one is a copy of."""
    try:
        link = Path((entry / "gitdir").read_text(encoding="utf-8").strip())
        return not Path(link.read_text(encoding="utf-8").strip().removeprefix("gitdir: ")).samefile(entry)
    except OSError:
        return False


def _remove_abandoned(main: Path) -> None:
    """Worktrees of runs that crashed long ago and were never run again."""
    for folder in list((main / FOLDER).iterdir()):
        if folder.is_dir() and time.time() - folder.stat().st_mtime > ABANDONED_SECONDS:
            with _locked(folder, wait=False) as free:
                if free:
                    _remove(main, folder)


def _identified(folder: Path) -> dict[str, str]:
    """The environment, completed by the fallback identity where git has no name or e-mail address configured."""
    environment = dict(os.environ)
    for key, fallback in FALLBACK_IDENTITY.items():
        if Git(folder).run("config", f"user.{key}") is None:
            for role in ("AUTHOR", "COMMITTER"):
                environment.setdefault(f"GIT_{role}_{key.upper()}", fallback)
    return environment
