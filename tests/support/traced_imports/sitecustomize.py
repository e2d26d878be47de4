"""With this folder on PYTHONPATH, each process of a DVC stage notes the Python files that it executes.

Python runs this at its start. Children are watched too, forked ones by the same hook; whatever is imported late, in a
function or by a worker, is seen like the rest. The sender of records outlives the stage and is no part of it.
"""

import os
import sys
from typing import Any

FOLDER, STAGE = os.environ.get("IMPORTS_TO"), os.environ.get("DVC_STAGE")
seen: set[str] = set()


def note(event: str, arguments: tuple[Any, ...]) -> None:
    """Append the file of a module's code, once a process, to the stage's list."""
    if event == "exec":
        file = getattr(arguments[0], "co_filename", "")
        if file.endswith(".py") and file not in seen:
            seen.add(file)
            with open(f"{FOLDER}/{STAGE}", "a", encoding="utf-8") as stream:
                stream.write(f"{file}\n")


if FOLDER and STAGE and "flows.tracking.send" not in sys.orig_argv:
    sys.addaudithook(note)
