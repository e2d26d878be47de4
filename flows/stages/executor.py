"""Where the chunk tasks of `prepare` and `tokenize` run: on this machine, or on the Dask cluster that params name."""

from collections.abc import Callable

from transformer.data.prepare.params import PreparationParams
from transformer.executor import Executor, LocalExecutor


def with_executor(stage: str, preparation: PreparationParams, work: Callable[[Executor], None]) -> None:
    """Call `work` with the executor that `preparation` chooses, and release it afterwards."""
    if preparation.executor == "dask":
        assert preparation.scheduler is not None
        from flows.stages.dask_executor import run_on_dask  # here: Prefect takes seconds to import

        run_on_dask(stage, preparation.scheduler, work)
    else:
        with LocalExecutor() as executor:
            work(executor)
