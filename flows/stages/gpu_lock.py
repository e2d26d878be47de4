"""One stage at a time on each device of this machine, whether a flow or a person started it."""

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

    The CPU is a device like others: a training keeps all cores busy, and two together get less done than one after
    the other. The lock ends with the process, however that ends.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    name = re.sub(r"\W+", "-", f"{device} {visible}".strip())
    path = Path(tempfile.gettempdir()) / f"transformer-{name}.lock"
    with locked(path, wait=False) as free:
        if free:
            yield
            return
    log.info("waiting for %s: another stage computes there and holds %s", device, path)
    with locked(path):
        yield
