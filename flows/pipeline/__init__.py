"""DVC's stage graph as a Prefect flow: `python -m flows.pipeline [STAGE …]`."""
