"""The tracking server that MLflow's functions without a client use."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow

from flows.checkout.tracking_credentials import ADDRESS


@contextmanager
def tracking_at(uri: str) -> Iterator[None]:
    """MLflow's global address for the body only: it sets the environment's too, which is for all spools."""
    environment, former = dict(os.environ), mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(former)
        del os.environ[ADDRESS]
        os.environ.update(environment)
