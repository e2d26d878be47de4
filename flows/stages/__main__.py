"""`python -m flows.stages`: what can be found wrong before `dvc repro` starts a stage.

Wrong params, a wrong data/corpora.yaml or device end it in one line; damaged objects leave DVC's cache.
"""

import sys
from pathlib import Path

from flows.checkout.preflight import check_checkout
from flows.restore.outputs import discard_damaged
from transformer.errors import UserError

if __name__ == "__main__":
    try:
        check_checkout()
        for line in discard_damaged(Path.cwd()):
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
