"""One short module for each stage of dvc.yaml, run as `python -m flows.stages.<stage>` from the checkout's root."""

import os

from flows.processes.die_with_parent import die_with_parent

# Here, before a stage's own imports, which take seconds. `dvc` does not pass signals on to its stages: one that is
# killed would leave its training running. Without DVC the parent is a shell, which people may leave.
if "DVC_STAGE" in os.environ:
    die_with_parent()
