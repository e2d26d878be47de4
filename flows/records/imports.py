"""Which of the checkout's modules a stage's processes import: hashed as Python reads them, before it compiles them.

A file that is edited while a stage runs, and put back before it ends, is so known by what was executed. Bytecode of
earlier runs is not taken: nothing says which source it was made from. The few modules that are imported before
`watch_imports`, this one among them, are hashed as they lie there; whoever changes those changes the recorder itself.
"""

import atexit
import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.abc import FileLoader
from importlib.machinery import BYTECODE_SUFFIXES, SourceFileLoader
from pathlib import Path

FILE_VARIABLE = "PIPELINE_IMPORTS"  # the list that all processes of a stage append to


def watch_imports() -> None:
    """List every module below the working folder from now on, in the children of this process, too."""
    root = f"{Path.cwd()}{os.sep}"
    if FILE_VARIABLE not in os.environ:
        stream, path = tempfile.mkstemp(prefix="imports-")
        os.environ[FILE_VARIABLE] = path
        os.close(stream)
        atexit.register(Path(path).unlink, missing_ok=True)
    listing = os.open(os.environ[FILE_VARIABLE], os.O_WRONLY | os.O_APPEND)
    read: Callable[[FileLoader, str], bytes] = SourceFileLoader.get_data

    def note(path: str, source: bytes) -> None:
        os.write(listing, f"{source_sha256(source)} {path.removeprefix(root)}\n".encode())

    def watched(self: FileLoader, path: str) -> bytes:
        if not is_ours(path, root):
            return read(self, path)
        if path.endswith(tuple(BYTECODE_SUFFIXES)):
            raise FileNotFoundError(path)
        source = read(self, path)
        note(path, source)
        return source

    for module in list(sys.modules.values()):
        origin = getattr(getattr(module, "__spec__", None), "origin", None) or ""
        if is_ours(origin, root) and os.path.exists(origin):
            note(origin, Path(origin).read_bytes())
    SourceFileLoader.get_data = watched  # type: ignore[method-assign]


def imported() -> dict[str, str]:
    """SHA-256 of each module that a process of this stage has imported, by path; none where nobody watches.

    One that processes read in different states has its later ones as `path (2)`, and so on.
    """
    listed: dict[str, dict[str, None]] = {}
    path = os.environ.get(FILE_VARIABLE)
    for line in Path(path).read_text(encoding="utf-8").splitlines() if path else ():
        sha256, _, name = line.partition(" ")
        listed.setdefault(name, {})[sha256] = None
    return {
        f"{name} ({number})" if number > 1 else name: sha256
        for name, states in sorted(listed.items())
        for number, sha256 in enumerate(states, 1)
    }


def is_ours(path: str, root: str) -> bool:
    """Whether a module's file belongs to the checkout: its environment may lie in it, too."""
    return path.startswith(root) and "site-packages" not in path


def source_sha256(source: bytes) -> str:
    """SHA-256 of a module's text, whose line ends may be those of another system."""
    return hashlib.sha256(source.replace(b"\r\n", b"\n")).hexdigest()
