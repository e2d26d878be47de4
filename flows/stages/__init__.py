"""One short module for each stage of dvc.yaml, run as `python -m flows.stages.<stage>` from the checkout's root."""
