"""From what a person calls a parent to a model folder: a folder, a version in MLflow's registry, a git revision.

Looked for in this order; the first that exists is it. A revision's model is that of its dvc.lock, from DVC's cache or
default remote.
"""

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from flows.checkout.workspace import DEFINITION, MODEL, main_workspace
from flows.lineage.project import Project
from flows.lineage.run_store import ModelVersion
from transformer.errors import DataError, ParamsError
from transformer.files import atomic_path, files_below, sha256_of
from transformer.model.folder import CONFIG_FILE, WEIGHTS_FILE, check_files
from transformer.tokens.vocabulary import VOCABULARY_FILE

KEY = "training.start_from"
NEEDED = (CONFIG_FILE, WEIGHTS_FILE, VOCABULARY_FILE)
VERSION = re.compile(r"(?:models:/)?([\w.-]+)(?:/(\d+)|(@[\w.-]+))")
REGISTERED_FOLDER = "artifacts/model"  # where MLflow keeps the model folder of a version
KINDS = "a model folder, a version of a registered model (NAME/3 or NAME@champion) or a git revision"


@dataclass(frozen=True)
class Model:
    """A model folder, and what will still name it when names have moved."""

    asked: str
    resolved: str
    folder: Path
    checkout: Path | None = None  # where its records are, if that is another checkout


@contextmanager
def found_model(project: Project, asked: str) -> Iterator[Model]:
    """The model folder that `asked` names; one that has to be fetched exists during the body only.

    Raises:
        ParamsError: nothing has that name, or it is no model.
        DataError: its files are missing or damaged.
    """
    if folder := _existing(Path(asked)):
        _check(folder, asked)
        yield Model(asked, asked, folder, _checkout_of(folder))
        return
    with tempfile.TemporaryDirectory(prefix="parent-") as temporary:
        name = _fetched(project, asked, Path(temporary, "model"))
        _check(Path(temporary, "model"), asked)
        yield Model(asked, name, Path(temporary, "model"))


def _existing(path: Path) -> Path | None:
    """The folder, here or, for a worktree, in the workspace that it belongs to."""
    places = (Path.cwd() / path, main_workspace() / path)
    return next((place for place in places if place.is_dir()), None)


def _checkout_of(folder: Path) -> Path | None:
    """The checkout that a folder lies in, if it is another one than this."""
    parents = folder.resolve().parents
    root = next((parent for parent in parents if (parent / DEFINITION).is_file()), None)
    return root if root not in (None, Path.cwd().resolve()) else None


def _check(folder: Path, asked: str) -> None:
    for name in NEEDED:
        if not (folder / name).is_file():
            raise ParamsError(
                f"{KEY} = {asked!r}: no model folder, it has no {name}; name one such as models/averaged"
            )
    check_files(folder)


def _fetched(project: Project, asked: str, target: Path) -> str:
    """Fetch a version's or a revision's model into `target`; returns the name that stays."""
    match = VERSION.fullmatch(asked)
    if match and (version := project.runs.version(match[1], match[2] or match[3])):
        _fetch_version(project, version, target)
        return f"{version.name}/{version.version}"
    if commit := project.git.commit(asked):
        _fetch_revision(project, asked, commit, target)
        return commit
    raise ParamsError(_unknown(project, asked, bool(match)))


def _fetch_version(project: Project, version: ModelVersion, target: Path) -> None:
    name = f"{version.name}/{version.version}"
    with tempfile.TemporaryDirectory(prefix="parent-") as temporary:
        folder = project.runs.fetch(f"{version.artifacts}/{REGISTERED_FOLDER}", Path(temporary))
        if folder is None:
            raise DataError(
                f"{KEY}: the files of {name} are not at {version.artifacts} any more: name another version"
            )
        if version.sha256 and (found := sha256_of(folder)) != version.sha256:
            raise DataError(
                f"{KEY}: {name} is damaged: registered with sha256 {version.sha256[:12]}, its files have {found[:12]}"
            )
        shutil.copytree(folder, target)


def _fetch_revision(project: Project, asked: str, commit: str, target: Path) -> None:
    lock = project.lock_at(commit)
    md5 = next((stage.outputs[MODEL] for stage in lock.values() if MODEL in stage.outputs), None)
    if md5 is None:
        raise ParamsError(f"{KEY} = {asked!r}: its dvc.lock has no {MODEL}: no model had been made at {commit[:10]}")
    stores = [project.stores.cache]
    if project.stores.remote_name and not project.stores.remote_problem:
        stores.append(project.stores.remote)
    listing = next(filter(None, (store.listing(md5) for store in stores)), None)
    for name, file_md5 in (listing or {}).items():
        content = project.content(f"{MODEL}/{name}", file_md5)
        if content is None:
            listing = None
            break
        with atomic_path(_made(target / name)) as temporary:
            temporary.write_bytes(content)
    if listing is None:
        raise DataError(
            f"{KEY} = {asked!r}: the model of {commit[:10]} is neither in DVC's cache nor in its remote: "
            f"dvc fetch --all-commits, or make it again there (dvc repro)"
        )


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _unknown(project: Project, asked: str, is_version: bool) -> str:
    """What is there instead, the nearest names first."""
    reason = f"; MLflow: {project.runs.problem}" if is_version and project.runs.problem else ""
    names = [*project.runs.names(), *_revisions(project), *_folders()]
    close = get_close_matches(asked, names, n=3, cutoff=0.5)
    meant = f"; did you mean {' or '.join(close)}?" if close else ""
    return f"{KEY} = {asked!r}: there is nothing of that name; name {KINDS}{meant}{reason}"


def _revisions(project: Project) -> list[str]:
    listed = project.git.run("for-each-ref", "--format=%(refname:short)", "refs/tags", "refs/heads") or b""
    return listed.decode(errors="replace").split()


def _folders() -> list[str]:
    """Model folders near the place where people keep them."""
    found = Path("models").glob(f"*/{CONFIG_FILE}") if Path("models").is_dir() else ()
    return [path.parent.as_posix() for path in found if (path.parent / WEIGHTS_FILE).exists()]


def copied(folder: Path, target: Path) -> None:
    """Copy the files of a model folder, whatever links or caches they are in."""
    for file in files_below(folder):
        with atomic_path(_made(target / file.relative_to(folder))) as temporary:
            shutil.copyfile(file, temporary)
