"""One training at a time on each accelerator of this machine, whether a flow or a person started it."""

import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformer.files import locked

log = logging.getLogger(__name__)


@contextmanager
def gpu_lock(device: str) -> Iterator[None]:
    """Hold `device` (as torch names it) during the body; waits, and logs it, while another process holds it.

    The CPU needs no lock: sharing it is the operating system's job. The lock ends with the process, however that
    ends.
    """
    if device == "cpu":
        yield
        return
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = re.sub(r"\W+", "-", f"{device} {visible}".strip())
    path = Path(tempfile.gettempdir()) / f"transformer-{name}.lock"
    with locked(path, wait=False) as free:
        if free:
            yield
            return
    log.info("waiting for %s: another training holds %s", device, path)
    with locked(path):
        yield
