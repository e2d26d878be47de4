"""One short module for each stage of dvc.yaml, run as `python -m flows.stages.<stage>` from the checkout's root."""

import os

from flows.processes.die_with_parent import die_with_parent

# Here, before a stage's own imports, which take seconds. `dvc` does not pass signals on to its stages: if it is
# killed, the training would go on without it. Without DVC the parent is a shell, which people may close on purpose.
if "DVC_STAGE" in os.environ:
    die_with_parent()
