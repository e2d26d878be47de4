"""Work cut into numbered chunks: each result is an Arrow file of its own, so that what is done stays done."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow

from transformer.executor import Chunk, Executor, Shared
from transformer.files import atomic_path


def map_chunks(
    executor: Executor,
    task: Callable[[Shared, Chunk], pyarrow.Table],
    shared: Shared,
    chunks: Iterable[Chunk],
    folder: Path,
    advance: Callable[[int], None] = lambda done: None,
) -> list[Path]:
    """The files in `folder` of `task(shared, chunk)`, one a chunk, in order; those that are there are not made again.

    `chunks` are read one by one, also those that are done; `advance` is told of each finished chunk how many are.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    unfinished: deque[Path] = deque()

    def missing() -> Iterator[Chunk]:
        for number, chunk in enumerate(chunks):
            paths.append(folder / f"{number:06}.arrow")
            if not paths[-1].exists():
                unfinished.append(paths[-1])
                yield chunk

    for result in executor.map(task, shared, missing()):
        write_table(unfinished.popleft(), result)
        advance(len(paths) - len(unfinished))
    return paths


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


def row_count(path: Path) -> int:
    """How many rows an Arrow file has; its columns are not read."""
    return int(read_table(path, []).num_rows)
