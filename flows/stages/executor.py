"""Where the chunk tasks of `prepare` and `tokenize` run: on this machine, or on the Dask cluster that params name."""

from collections.abc import Callable

from transformer.chunks import Executor, LocalExecutor
from transformer.params import ComputeParams


def with_executor(stage: str, compute: ComputeParams, work: Callable[[Executor], None]) -> None:
    """Call `work` with the executor that `compute` chooses, and release it afterwards."""
    if compute.executor == "dask":
        assert compute.scheduler is not None
        from flows.stages.dask_executor import run_on_dask  # here: Prefect takes seconds to import

        run_on_dask(stage, compute.scheduler, work)
    else:
        with LocalExecutor() as executor:
            work(executor)
