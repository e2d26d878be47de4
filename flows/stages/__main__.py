"""`python -m flows.stages`: check params.yaml and data/corpora.yaml before `dvc repro` starts a stage.

DVC deletes the outputs of a stage before it starts it, so that a stage that then finds a wrong value has cost them.
"""

from pathlib import Path

from flows.checkout.site_cache import configure, use_private_site_cache
from flows.checkout.workspace import REGISTRY
from flows.stages.runner import checked_params
from transformer.data.download.download import chosen_corpora

if __name__ == "__main__":
    with checked_params("check") as params:
        use_private_site_cache(Path())
        configure(Path())
        chosen_corpora(params.download, params.languages, Path(REGISTRY))
