"""One byte changed in each kind of file that the project writes or caches: noticed before use, named, made good."""

import json
import logging
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from faulty_checkout import FAULTS, MADE, Checkout
from published_corpus import published_files
from raw_parts import PARAMS, part, random_pairs, write_lines

from transformer.chunks import LocalExecutor
from transformer.data.parts import write_parts
from transformer.data.prepare.prepare import prepare
from transformer.data.tokenize import tokenize as tokenize_stage
from transformer.files import files_below, sha256_of
from transformer.params import TokenizationParams

pytestmark = pytest.mark.slow
NAMED = "One byte changed in {}: noticed before use, named, and made good"
PREPARATION = PARAMS.model_copy(update={"batch_pairs": 40})
TOKENIZATION = TokenizationParams(
    vocabulary_size=300, character_coverage=1.0, training_pairs=10_000, model=None, new_pieces=0
)


def flip(path: Path, random_: random.Random, unseen: bool = False) -> None:
    """Change one bit of a file; `unseen`: as a failing disk does it, with the time of the last change as before."""
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
    path.chmod(before.st_mode | 0o200)
    path.write_bytes(content)
    path.chmod(before.st_mode)
    if unseen:
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def kinds(folder: Path) -> list[Path]:
    """The files below a folder that have a byte to change."""
    return [path for path in files_below(folder) if path.stat().st_size]


class InterruptedRunError(Exception):
    """Stands for whatever ended the process."""


class EndingExecutor(LocalExecutor):
    """Computes so many chunks in all, then ends the run."""

    def __init__(self, chunks: int) -> None:
        super().__init__(1)
        self.left = chunks

    def map(self, task: Callable[..., Any], shared: Any, chunks: Iterable[Any]) -> Iterator[Any]:
        for result in super().map(task, shared, chunks):
            if self.left == 0:
                raise InterruptedRunError
            self.left -= 1
            yield result


@pytest.mark.parametrize("chunks", [3, 7])
@pytest.mark.parametrize("stage", ["prepare", "tokenize"])
def test_the_work_of_an_interrupted_stage(
    promised,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    chunks: int,
) -> None:
    promise = promised(
        NAMED.format("chunks and vocabulary of an interrupted stage"), "each file that was left, in turn"
    )
    monkeypatch.setattr(tokenize_stage, "BATCH_PAIRS", 50)
    write_lines(tmp_path / "raw", "crawl", random_pairs(300, seed=1))
    write_parts(tmp_path / "raw", [part("crawl", None)])

    def run(made: Path, executor: LocalExecutor) -> str:
        if stage == "prepare":
            prepare(PREPARATION, tmp_path / "raw", made, made / "report.json", tmp_path / "work", executor)
        else:
            corpus, work = tmp_path / "corpus", tmp_path / "work"
            tokenize_stage.tokenize(TOKENIZATION, corpus, made, made / "report.json", work, executor)
        return sha256_of(made)

    if stage == "tokenize":
        report, work = tmp_path / "corpus.json", tmp_path / "work"
        prepare(PREPARATION, tmp_path / "raw", tmp_path / "corpus", report, work, LocalExecutor(1))
    expected = run(tmp_path / "whole", LocalExecutor(1))
    with pytest.raises(InterruptedRunError):
        run(tmp_path / "broken-off", EndingExecutor(chunks))
    names = [path.relative_to(tmp_path) for path in kinds(tmp_path / "work")]
    assert len(names) >= chunks
    shutil.copytree(tmp_path / "work", tmp_path / "left")
    for number, name in enumerate(names):
        shutil.rmtree(tmp_path / "work")
        shutil.copytree(tmp_path / "left", tmp_path / "work")
        flip(tmp_path / name, random.Random(f"{stage} {chunks} {number}"), unseen=True)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert run(tmp_path / f"again-{number}", LocalExecutor(1)) == expected
        # Not read: words once the vocabulary has been learned from them, and settings.json, which is written anew.
        if name.name != "settings.json" and (name.parent.name != "words" or chunks < 6):
            assert str(name) in caplog.text
        promise.held()


def test_the_cache_of_sources(promised, checkout: Checkout) -> None:
    promise = promised(NAMED.format("cached sources and unfinished transfers"), "each file, and the first half of it")
    expected = checkout.made("download")
    download = [sys.executable, "-m", "flows.stages.download"]
    cached = [path for path in files_below(checkout.folder / "work" / "downloads") if path.suffix != ".lock"]
    assert len(cached) == len(published_files())
    for number, path in enumerate(cached):
        flip(path, random.Random(number), unseen=True)
        ended = checkout.ended(download)
        assert ended.status == 0, ended.printed
        assert f"{path.name} has changed" in ended.printed
        assert checkout.made("download") == expected
        promise.held()
    for number, path in enumerate(cached):
        content = path.read_bytes()
        path.unlink()
        partial = path.with_name(f"{path.name}.part")
        partial.write_bytes(content[: len(content) // 2])
        flip(partial, random.Random(number))
        checkout.ended(download)  # a folder as mirror copies; a server goes on, as tests/transformer/data has it
        assert checkout.ended(download).status == 0
        assert checkout.made("download") == expected
        promise.held()


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("stage", MADE)
def test_outputs(promised, checkout: Checkout, stage: str) -> None:
    promise = promised(
        NAMED.format("a stage's output"),
        "files of each output; `dvc status` names the output, `dvc repro` makes it good",
    )
    expected = checkout.made(stage)
    random_ = random.Random(stage)
    outputs = [output for output in MADE[stage] if (checkout.folder / output).exists()]
    for output in outputs:
        path = checkout.folder / output
        files = files_below(path) if path.is_dir() else [path]
        for file in files if len(files) <= FAULTS else random_.sample(files, FAULTS):
            flip(file, random_)
            assert output in checkout.dvc("status", stage)
            assert checkout.ended([sys.executable, "-m", "dvc", "repro"]).status == 0
            assert checkout.made(stage) == expected, file
            promise.held()


@pytest.mark.timeout(1200)
def test_dvc_lock_and_lineage_records(promised, checkout: Checkout) -> None:
    promise = promised(
        NAMED.format("dvc.lock and a lineage record"),
        "random places; `lineage verify` names the file, `git checkout` cures",
    )
    verify = [str(Path(sys.executable).parent / "lineage"), "verify"]
    assert checkout.ended(verify).status == 0
    random_ = random.Random("lock")
    files = ["dvc.lock", *(f"reports/lineage/{stage}.json" for stage in MADE)]
    for file in [file for file in files for _ in range(max(1, FAULTS // len(files)))]:
        flip(checkout.folder / file, random_)
        ended = checkout.ended(verify)
        assert ended.status != 0, f"{file}: {checkout.git('diff', file)}\n{ended.printed}"
        assert "Traceback" not in ended.printed, ended.printed
        assert Path(file).stem in ended.printed
        checkout.git("checkout", file)
        promise.held()
    assert checkout.ended(verify).status == 0


@pytest.mark.timeout(1200)
def test_the_state_of_a_training(promised, checkout: Checkout) -> None:
    promise = promised(NAMED.format("state and checkpoints of a training that was killed"), "each file that was left")
    expected = checkout.made("train")
    random_ = random.Random("train")
    for _ in range(FAULTS):
        checkout.forget("train")
        checkout.once_more("train", FAULT_PROCESS="flows.stages.train", KILL_AT="60")
        left = [path for path in kinds(checkout.folder / "work" / "training") if path.suffix == ".safetensors"]
        assert left
        file = random_.choice(left)
        flip(file, random_, unseen=True)
        again = checkout.once_more("train")
        assert again.status == 0, again.printed
        report = json.loads((checkout.folder / "reports" / "training.json").read_text())
        # A checkpoint that is nowhere else and would be kept to the end can only be named.
        missing = [f"{file.name} was damaged and is missing"] if report.get("differs") else []
        assert report.get("differs", []) == missing
        assert missing or checkout.made("train") == expected, file
        # Not read: the state before a sound one, and a checkpoint that is not kept any more.
        if file.name == "state.safetensors" or f"models/checkpoints/{file.name}" in expected:
            assert file.name in again.printed, again.printed
        promise.held()


@pytest.mark.timeout(1200)
def test_the_model_that_translates(promised, checkout: Checkout) -> None:
    promise = promised(NAMED.format("the model folder"), "each file; `transformer translate` refuses it")
    translate = [sys.executable, "-m", "transformer", "translate", "--model", "models/averaged"]
    for number, file in enumerate(kinds(checkout.folder / "models" / "averaged")):
        if file.name in ("model_card.md", "averaged.json"):
            continue
        content = file.read_bytes()
        flip(file, random.Random(number), unseen=True)
        ended = checkout.ended(["sh", "-c", f"echo 'the cat sees the red lamp.' | {' '.join(translate)}"])
        assert file.name in ended.in_one_line("transformer: "), ended.printed
        file.chmod(0o644)
        file.write_bytes(content)
        promise.held()


@pytest.mark.timeout(1200)
def test_the_cache_of_dvc(promised, checkout: Checkout) -> None:
    promise = promised(
        NAMED.format("DVC's cache"), "the object of an output that is gone; `python -m flows.stages`, `dvc repro`"
    )
    expected = {stage: checkout.made(stage) for stage in MADE}
    objects = [path for path in kinds(checkout.folder / ".dvc" / "cache" / "files") if path.suffix != ".dir"]
    random_ = random.Random("cache")
    repro = f"{sys.executable} -m flows.stages && {sys.executable} -m dvc repro"
    for file in random_.sample(objects, FAULTS):
        md5 = file.parent.name + file.name
        flip(file, random_, unseen=True)
        for made in expected.values():
            for name in made:
                if _md5(checkout.folder / name) == md5:
                    (checkout.folder / name).unlink()
        ended = checkout.ended(["sh", "-c", repro])
        assert ended.status == 0, ended.printed
        assert {stage: checkout.made(stage) for stage in MADE} == expected, file
        promise.held()


def _md5(path: Path) -> str:
    from flows.records.hashes import hash_file

    return hash_file(path).md5 if path.exists() else ""
