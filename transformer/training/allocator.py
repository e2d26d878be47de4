"""The memory of a CPU's updates stays with the process: glibc gives large blocks back and asks for them again.

The kernel fills each page of a new block with zeros, some ten thousand an update.
"""

import ctypes
import sys

# From glibc's malloc.h, whose numbers are part of its binary interface.
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_THRESHOLD = -1, -2, -3
LARGEST_BLOCK = 64 << 20  # bytes; what is larger is still given back
GROWTH = 16 << 20  # bytes asked for at a time
NEVER = (1 << 31) - 1


def keep_freed_memory() -> None:
    """From now on, in this process; without glibc nothing changes."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    mallopt(M_MMAP_THRESHOLD, LARGEST_BLOCK)
    mallopt(M_TRIM_THRESHOLD, NEVER)
    mallopt(M_TOP_PAD, GROWTH)
