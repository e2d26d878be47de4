"""`python -m flows.stages`: what can be found wrong before `dvc repro` starts a stage; `repro` then becomes that.

Wrong params, a wrong data/corpora.yaml, device or signing key end it in one line; damaged objects leave DVC's cache.
`repro` first waits for another `make repro` or flow in this workspace: DVC's --wait-for-lock does not, it calls the
files busy.
"""

import os
import sys
from pathlib import Path

from flows.checkout.preflight import check_checkout
from flows.checkout.site_cache import configure, use_private_site_cache
from flows.checkout.workspace import check_is_checkout, hold_pipeline_lock
from flows.restore.outputs import discard_damaged
from flows.signatures.keys import load_signer
from transformer.errors import UserError

if __name__ == "__main__":
    try:
        use_private_site_cache(Path())
        check_is_checkout(Path())
        configure(Path())
        if repro := sys.argv[1:] == ["repro"]:
            os.set_inheritable(hold_pipeline_lock(Path.cwd(), print), True)
        check_checkout()
        load_signer()
        for line in discard_damaged(Path.cwd()):
            print(line)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.stdout.flush()
    if repro:
        # Without --wait-for-lock, a DVC command in another terminal when a stage ends would cost that stage's work.
        os.execvp("dvc", ["dvc", "--wait-for-lock", "repro"])  # noqa: S606  # no shell is wanted between
