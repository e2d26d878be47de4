"""Chunk tasks on an existing Dask cluster, through Prefect's Dask task runner.

Workers need this package and a connection to the Prefect server, but no shared disk: chunks and results are sent over
the network.
"""

import pickle
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from distributed import Future
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect_dask.task_runners import DaskTaskRunner

from transformer.chunks import Chunk, Executor, Result, Shared, in_order
from transformer.errors import UserError

CONNECT_SECONDS = 30


@task(name="chunk", cache_policy=NO_CACHE, persist_result=False)
def _compute(function: Callable[[Any, Any], Any], shared: Any, chunk: bytes) -> bytes:
    return pickle.dumps(function(shared, pickle.loads(chunk)))  # noqa: S301  # Dask itself runs whatever its scheduler sends


class DaskExecutor:
    """Submits each chunk as a task of the running flow."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def map(
        self, task: Callable[[Shared, Chunk], Result], shared: Shared, chunks: Iterable[Chunk]
    ) -> Iterator[Result]:
        """As in `Executor`."""
        spread = self._client.scatter(shared, broadcast=True, hash=False)
        # As bytes, since Prefect searches every element of a list or dict parameter for futures.
        submitted = (
            self._client.submit(_compute, function=task, shared=spread, chunk=pickle.dumps(chunk), pure=False)
            for chunk in chunks
        )
        threads = sum(self._client.nthreads().values())
        for result in in_order(submitted, 2 * max(1, threads), Future.result):
            yield pickle.loads(result)  # noqa: S301  # from the cluster that the user named


def run_on_dask(stage: str, scheduler: str, work: Callable[[Executor], None]) -> None:
    """Call `work` in a flow whose chunk tasks run on the cluster of `scheduler`.

    Raises:
        UserError: no scheduler answers at that address.
    """
    runner = DaskTaskRunner(address=scheduler, client_kwargs={"timeout": CONNECT_SECONDS})

    @flow(name=f"{stage} on dask", task_runner=runner)
    def chunks() -> None:
        try:
            client = FlowRunContext.get().task_runner.client
        except OSError:
            message = f"compute.scheduler = {scheduler}: no Dask scheduler answers within {CONNECT_SECONDS} s"
            raise UserError(message) from None
        work(DaskExecutor(client))

    chunks()
