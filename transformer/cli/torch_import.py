"""torch in half the time: its import is most of what a short command takes."""

import gc
import sys
from types import ModuleType

# Shapes without numbers, for compiling: a quarter of the import, and never asked for here.
UNUSED = "torch._meta_registrations"


def import_torch() -> None:
    """Import torch without looking for garbage meanwhile, of which an import makes none, and without `UNUSED`.

    That is imported as ever by whoever asks for it later.
    """
    if "torch" in sys.modules:
        return
    collects = gc.isenabled()
    gc.disable()
    sys.modules[UNUSED] = stand_in = ModuleType(UNUSED)
    try:
        import torch

        import transformer.decoding.translator  # noqa: F401
    finally:
        if sys.modules.get(UNUSED) is stand_in:
            del sys.modules[UNUSED]
        gc.freeze()  # what has been imported stays
        if collects:
            gc.enable()
    if getattr(torch, "_meta_registrations", None) is stand_in:
        del torch._meta_registrations
