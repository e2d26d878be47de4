"""Chunk tasks: equal bytes whoever computes them, work that is done stays done, no worker outlives its parent."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from raw_parts import PARAMS, part, random_pairs, write_lines

from flows.stages.executor import with_executor
from transformer.chunks import Executor, LocalExecutor, map_chunks, read_table
from transformer.data.parts import write_parts
from transformer.data.prepare.prepare import prepare
from transformer.data.tokenize import tokenize as tokenize_stage
from transformer.errors import ParamsError, UserError
from transformer.files import files_below
from transformer.params import ComputeParams, TokenizationParams, params_from

LOCAL = ComputeParams(device="cpu", devices=1, nodes=1, threads=1, executor="local", scheduler=None)
TOKENIZATION = TokenizationParams(
    vocabulary_size=300, character_coverage=1.0, training_pairs=10_000, model=None, new_pieces=0
)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_below(folder)}


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A crawled part to be split, with duplicates, and an official test part."""
    folder = tmp_path / "raw"
    pairs = random_pairs(300, seed=1)
    write_lines(folder, "crawl", [*pairs, *pairs[:40], *((f"{source}x", target) for source, target in pairs[:40])])
    write_lines(folder, "exam", random_pairs(10, seed=2))
    write_parts(folder, [part("crawl", None), part("exam", "test")])
    return folder


def run(raw: Path, made: Path, executor: Executor, chunk_pairs: int = 7) -> dict[str, bytes]:
    """Prepare and tokenize; returns all files made."""
    prepare(
        PARAMS.model_copy(update={"batch_pairs": chunk_pairs}),
        raw,
        made / "corpus",
        made / "corpus.json",
        made / "work",
        executor,
    )
    tokenize_stage.tokenize(
        TOKENIZATION, made / "corpus", made / "tokens", made / "tokens.json", made / "work", executor
    )
    return contents(made)


def test_any_number_of_workers_and_a_dask_cluster_write_equal_bytes(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, prefect_server: Any
) -> None:
    monkeypatch.setattr(tokenize_stage, "BATCH_PAIRS", 100)
    expected = run(raw, tmp_path / "one", LocalExecutor(1))
    assert {"corpus/train.parquet", "tokens/spm.model", "tokens/train.target.ids.npy"} <= expected.keys()
    assert not any(name.startswith("work/") for name in expected)
    with LocalExecutor(3) as executor:
        assert run(raw, tmp_path / "three", executor) == expected

    from distributed import LocalCluster

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        prefect_server.connected(),
    ):
        dask = LOCAL.model_copy(update={"executor": "dask", "scheduler": cluster.scheduler_address})
        with_executor("prepare", dask, lambda executor: run(raw, tmp_path / "dask", executor, 100))
        assert contents(tmp_path / "dask") == expected
    with prefect_server.connected():
        monkeypatch.setattr("flows.stages.dask_executor.CONNECT_SECONDS", 1)
        with pytest.raises(UserError, match="no Dask scheduler answers within 1 s"):
            with_executor("prepare", dask, lambda executor: run(raw, tmp_path / "dask", executor, 100))


def test_a_cluster_needs_an_address() -> None:
    from tiny_inputs import TINY_PARAMS

    content = {**TINY_PARAMS, "compute": {**TINY_PARAMS["compute"], "executor": "dask"}}
    with pytest.raises(ParamsError, match=r"compute.*executor: dask needs the scheduler's address"):
        params_from(content, "params.yaml")


class Interrupted(LocalExecutor):
    """Is stopped after some tasks, and counts those that it was given."""

    def __init__(self, last: int) -> None:
        super().__init__(1)
        self.last, self.count = last, 0

    def map(self, task: Callable[[Any, Any], Any], shared: Any, chunks: Iterable[Any]) -> Iterator[Any]:
        for result in super().map(task, shared, chunks):
            self.count += 1
            if self.count > self.last:
                raise KeyboardInterrupt
            yield result


@pytest.mark.parametrize("stage", ["prepare", "tokenize"])
def test_an_interrupted_stage_goes_on_with_the_next_chunk(
    tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(tokenize_stage, "BATCH_PAIRS", 40)
    run(raw, tmp_path / "prepared", LocalExecutor(1))

    def work(made: Path, executor: Executor) -> None:
        if stage == "prepare":
            prepare(PARAMS, raw, made / "out", made / "report.json", made / "work", executor)
        else:
            corpus = tmp_path / "prepared" / "corpus"
            tokenize_stage.tokenize(TOKENIZATION, corpus, made / "out", made / "report.json", made / "work", executor)

    whole = Interrupted(last=10_000)
    work(tmp_path / "whole", whole)
    computed = []
    for _ in range(100):
        executor = Interrupted(last=5)
        try:
            work(tmp_path / "cut", executor)
        except KeyboardInterrupt:
            computed.append(executor.last)
        else:
            computed.append(executor.count)
            break
    assert len(computed) > 2
    assert sum(computed) == whole.count
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def double(factor: int, chunk: int) -> pyarrow.Table:
    return pyarrow.table({"value": [factor * chunk]})


def test_chunks_that_are_there_are_not_computed_again(tmp_path: Path) -> None:
    assert len(map_chunks(LocalExecutor(1), double, 2, range(3), tmp_path)) == 3
    paths = map_chunks(LocalExecutor(1), double, 10, range(5), tmp_path)
    assert [read_table(path).column("value").to_pylist() for path in paths] == [[0], [2], [4], [30], [40]]


def die(_shared: None, chunk: int) -> int:
    if chunk == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return chunk


def test_a_killed_worker_ends_in_one_line() -> None:
    with LocalExecutor(2) as executor, pytest.raises(UserError, match=r"a worker process was killed, .* to continue"):
        list(executor.map(die, None, range(6)))
