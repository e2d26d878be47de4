"""Work cut into numbered chunks: who computes them, and the files that keep the finished ones."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import pyarrow

from transformer.errors import UserError
from transformer.files import atomic_path, keep_hashed, kept_files
from transformer.stopping import handle_stop_signals

Shared = TypeVar("Shared")
Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
Submitted = TypeVar("Submitted")


class Executor(Protocol):
    """Computes chunk tasks: pure functions of a module, with arguments and results that can be pickled."""

    def map(
        self, task: Callable[[Shared, Chunk], Result], shared: Shared, chunks: Iterable[Chunk]
    ) -> Iterator[Result]:
        """`task(shared, chunk)` of every chunk, in the order of the chunks; only a few are in memory at a time."""
        ...


class LocalExecutor:
    """Processes of this machine, one a core; a single chunk is computed in the calling process."""

    def __init__(self, workers: int | None = None) -> None:
        """`workers` processes; None: one for each core that this process may use."""
        self._workers = workers or _cores()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(
        self, task: Callable[[Shared, Chunk], Result], shared: Shared, chunks: Iterable[Chunk]
    ) -> Iterator[Result]:
        """As in `Executor`.

        Raises:
            UserError: a worker process was killed.
        """
        chunks = iter(chunks)
        first = list(islice(chunks, 2))
        if self._workers == 1 or len(first) < 2:
            yield from (task(shared, chunk) for chunk in chain(first, chunks))
            return
        with TemporaryDirectory() as folder:
            path = Path(folder) / "shared"
            path.write_bytes(pickle.dumps(shared, protocol=pickle.HIGHEST_PROTOCOL))
            try:
                submitted = (self._processes().submit(_run, task, path, chunk) for chunk in chain(first, chunks))
                yield from in_order(submitted, 2 * self._workers, Future.result)
            except BrokenProcessPool:
                self._pool = None
                raise UserError(
                    "a worker process was killed, perhaps because memory ran out (preparation.batch_pairs is what "
                    "each holds at a time); start again to continue"
                ) from None

    def _processes(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # Not forked: the calling process has threads, and a fork would copy their locks while held.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self._workers, context, initializer=_follow_parent)
        return self._pool


def _cores() -> int:
    """The cores that this process may use; macOS has no way to restrict them."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def in_order(
    submitted: Iterable[Submitted], ahead: int, result_of: Callable[[Submitted], Result]
) -> Iterator[Result]:
    """The results of tasks in the order of their submission, which runs at most `ahead` tasks ahead."""
    waiting: deque[Submitted] = deque()
    for future in submitted:
        waiting.append(future)
        if len(waiting) >= ahead:
            yield result_of(waiting.popleft())
    while waiting:
        yield result_of(waiting.popleft())


def _follow_parent() -> None:
    """End this worker with its parent, even a killed one; signals to the process group are the parent's to handle."""
    handle_stop_signals(signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _run(task: Callable[[Shared, Chunk], Result], shared: Path, chunk: Chunk) -> Result:
    return task(_load(shared), chunk)


@lru_cache(maxsize=1)
def _load(path: Path) -> Any:
    return pickle.loads(path.read_bytes())  # noqa: S301  # written by the parent process a moment ago


def map_chunks(
    executor: Executor,
    task: Callable[[Shared, Chunk], pyarrow.Table],
    shared: Shared,
    chunks: Iterable[Chunk],
    folder: Path,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """Write `task(shared, chunk)` of each chunk to a file in `folder`, unless it is there; the paths in order.

    `chunks` are read one by one, finished ones too. `advance` is called with the number of chunks finished so far.
    The files of an earlier run are hashed before they count as finished.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kept = kept_files(folder)
    names: list[str] = []
    unfinished: deque[str] = deque()

    def missing() -> Iterator[Chunk]:
        for number, chunk in enumerate(chunks):
            names.append(f"{number:06}.arrow")
            if names[-1] not in kept:
                unfinished.append(names[-1])
                yield chunk

    for result in executor.map(task, shared, missing()):
        written = folder / "new.arrow"
        write_table(written, result)
        name = unfinished.popleft()
        kept[name] = keep_hashed(written, name)
        advance(len(names) - len(unfinished))
    return [kept[name] for name in names]


def write_table(path: Path, table: pyarrow.Table) -> None:
    """Write an Arrow file atomically, lightly compressed."""
    options = pyarrow.ipc.IpcWriteOptions(compression="lz4")
    with (
        atomic_path(path) as temporary,
        pyarrow.OSFile(str(temporary), "wb") as stream,
        pyarrow.ipc.new_file(stream, table.schema, options=options) as writer,
    ):
        writer.write_table(table)


def read_table(path: Path, columns: list[str] | None = None) -> pyarrow.Table:
    """The table of an Arrow file, or some of its columns in their order in the file."""
    with pyarrow.OSFile(str(path)) as stream:
        if columns is None:
            return pyarrow.ipc.open_file(stream).read_all()
        names = pyarrow.ipc.open_file(stream).schema.names
        options = pyarrow.ipc.IpcReadOptions(included_fields=[names.index(name) for name in columns])
        return pyarrow.ipc.open_file(stream, options=options).read_all()
