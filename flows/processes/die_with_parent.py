"""Have Linux send SIGTERM to a child process when its parent dies, even if the parent is killed by SIGKILL.

`python -S -c PROGRAM PARENT COMMAND…` does that for the parent's pid and then becomes COMMAND.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

# This text: a training outlasts many things, a switch of the checkout's branch to one without this file among them.
PROGRAM = Path(__file__).read_text(encoding="utf-8") if "__file__" in globals() else ""
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>


def die_with_parent() -> None:
    """Have SIGTERM sent to this process when its parent ends; does nothing on systems other than Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    die_with_parent()
    if os.getppid() != int(sys.argv[1]):  # it died before prctl was called
        sys.exit(128 + signal.SIGTERM)
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606  # no shell is wanted: it would stand between parent and child
