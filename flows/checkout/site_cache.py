"""DVC's site cache, which it unpickles from: a folder of the user's own, not /var/tmp/dvc, which everybody shares.

Everything here that starts DVC calls `use_private_site_cache` first. For `dvc` typed by a person, `make setup` and
the first stage that runs without it name the folder in `.dvc/config.local`: the committed `.dvc/config` can't, as DVC
takes neither `~` nor a path relative to the checkout there.
"""

import os
import re
import stat
from pathlib import Path

from transformer.errors import UserError
from transformer.files import private_folder

VARIABLE = "DVC_SITE_CACHE_DIR"
CONFIG = Path(".dvc", "config.local")
NAMED = re.compile(r"^\s*site_cache_dir\s*=\s*[\"']?(.*?)[\"']?\s*$", re.MULTILINE)


def default_site_cache() -> Path:
    """A folder below the user's caches; below /var/tmp where the user's folders are named in other than ASCII.

    DVC writes its configuration in ASCII.
    """
    caches = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(caches) if Path(caches).is_absolute() else Path.home() / ".cache") / "attention-pipeline" / "dvc"
    return folder if str(folder).isascii() else Path(f"/var/tmp/attention-pipeline-{os.getuid()}/dvc")  # noqa: S108  # made 0700, refused if another owns it


def use_private_site_cache(root: Path) -> Path:
    """Have DVC, in this process and all that it starts, use the folder of the environment, the checkout or the user.

    Raises:
        UserError: other users can write to it, and what they write there DVC would execute.
    """
    folder = _checked(Path(os.environ.get(VARIABLE) or configured(root) or default_site_cache()))
    os.environ[VARIABLE] = str(folder)
    return folder


def _checked(folder: Path) -> Path:
    try:
        _make(folder)
    except OSError as error:
        raise UserError(
            f"DVC's site cache {folder} can't be made ({error.strerror}): name another in {VARIABLE}"
        ) from None
    if problem := _problem(folder.resolve()):
        raise UserError(
            f"DVC's site cache {folder} {problem}, and DVC executes what it reads there: remove it (rm -r), "
            f"or name another folder in {VARIABLE}"
        )
    return folder


def configured(root: Path) -> str | None:
    """The folder that the checkout's own configuration names, for `dvc` typed by a person."""
    try:
        found = NAMED.search((root / CONFIG).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None
    return found[1] if found else None


def configure(root: Path) -> Path | None:
    """Name the user's folder in the checkout's configuration unless it names one; returns it where that was new.

    Raises:
        UserError: as `use_private_site_cache`.
    """
    if configured(root) or not (root / ".dvc").is_dir():
        return None
    from dvc.config import Config  # here: DVC takes half a second to import

    folder = _checked(default_site_cache())
    with Config(str(root / ".dvc"), validate=False).edit("local", validate=False) as local:
        local.setdefault("core", {})["site_cache_dir"] = str(folder)
    return folder


def _make(folder: Path) -> None:
    if not folder.exists():
        if folder == default_site_cache():
            private_folder(folder.parent)  # of ours, too
        private_folder(folder)


def _problem(folder: Path) -> str | None:
    """Why somebody else could put something into the folder, or None."""
    if not folder.is_dir():
        return "is not a folder"
    if any(part.exists() and part.stat().st_uid != os.getuid() for part in (folder, folder / "repo")):
        return "belongs to another user"
    # DVC makes the folders inside writable by everybody, so that others must not even reach them.
    if folder.stat().st_mode & 0o077:
        return "is open to other users"
    for parent in folder.parents:
        mode = parent.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"is below {parent}, where others could put another one in its place"
    return None
