"""`python -m flows.restore [STAGE ...]`: the outputs of stages as of their last run, from DVC's cache or git.

Only outputs that differ from dvc.lock are touched: neither params, code, other results nor dvc.lock itself. Without a
stage, those of all stages. `--check` changes nothing and says whether every output is whole.
"""

import argparse
import sys
from pathlib import Path

from flows.checkout.workspace import check_is_checkout
from flows.restore.outputs import check_outputs, restore
from transformer.errors import DataError, ExitCode, UserError


def main() -> None:
    """Restore, or check, the checkout in the working folder."""
    parser = argparse.ArgumentParser(prog="python -m flows.restore", description=__doc__.partition("\n")[0])
    parser.add_argument(
        "stages", nargs="*", metavar="STAGE", help="whose outputs to bring back (default: all stages)"
    )
    parser.add_argument("--check", action="store_true", help="only hash what is here")
    options = parser.parse_args()
    root = Path.cwd()
    try:
        check_is_checkout(root)
        if options.check:
            check_outputs(root, options.stages or None)
        else:
            _restore(root, options.stages)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error.filename or root}: {error.strerror}", file=sys.stderr)
        sys.exit(ExitCode.FAILURE)


def _restore(root: Path, stages: list[str]) -> None:
    done = restore(root, stages)
    print(*(done.lines or ["all outputs are those of the last run"]), sep="\n")
    if done.lost:
        raise DataError(f"not everything is back: {', '.join(done.lost)} must run again")


if __name__ == "__main__":
    main()
