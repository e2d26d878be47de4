"""One part in a process of its own: `python -m benchmarks.gpu.part NAME FILE`, started by `benchmarks.gpu`."""

import logging
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path

from benchmarks.gpu.parts import Result
from transformer.errors import UserError


def main() -> None:
    """Measure; an error is printed whole, unless it is one for the user, and its last line kept in the file."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    name, result = sys.argv[1], Result.read(Path(sys.argv[2]))
    if os.environ["DEVICE"] == "cpu" and name != "correctness":  # whose tests see to it themselves
        os.environ["TORCH_COMPILE_DISABLE"] = "1"  # a rehearsal takes the same paths, without minutes of compiling
    try:
        import_module(f"benchmarks.gpu.{name}").measure(result)
    except UserError as error:
        failed = str(error)
        print(f"error: {failed}", flush=True)
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        failed = traceback.format_exception_only(error)[-1].strip()
    else:
        result.end("done")
        return
    result.end("failed", " ".join(failed.split())[:500])
    sys.exit(1)


if __name__ == "__main__":
    main()
