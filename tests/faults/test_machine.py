"""A machine that is not as it should be: no permission, no inodes, a wrong clock, a locked database, no memory."""

import os
import random
import signal
import sqlite3
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import yaml
from faulty_checkout import FAULTS, MADE, Checkout
from small_disk import run_in, unavailable
from tiny_inputs import CHECKOUT
from workspace import tiny_files

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
needs_namespaces = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
REPRO = f"{sys.executable} -m dvc repro --single-item"
DAY = "86400"
LINES = int(os.environ.get("FAULTS_LINES", "1000000"))
MEMORY_BYTES = 1 << 30


@needs_namespaces
@pytest.mark.parametrize(
    ("stage", "folder"),
    [("download", "work"), ("prepare", "data"), ("train", "work"), ("average", "models"), ("evaluate", "reports")],
)
def test_a_read_only_folder_is_told_and_costs_nothing(promised, checkout: Checkout, stage: str, folder: str) -> None:
    promise = promised(
        "A read-only folder is said without a stack trace, and put right, costs nothing", "a read-only mount of it"
    )
    expected = checkout.made(stage)
    checkout.forget(stage)
    (checkout.folder / "work").mkdir(exist_ok=True)
    read_only = f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"
    steps = [read_only, f"{REPRO} --force {stage}", f"umount {folder}", f"{REPRO} {stage}"]
    _, first, _, second = run_in(checkout, steps, [*MADE[stage], "dvc.lock"])
    assert first.status != 0, first.printed
    assert "Traceback" not in first.printed, first.printed
    assert "ead-only file system" in first.printed or "file system is read-only" in first.printed, first.printed
    assert second.status == 0, second.printed
    assert checkout.made(stage) == expected
    promise.held()


@needs_namespaces
@pytest.mark.parametrize("stage", ["download", "prepare", "train"])
def test_a_full_inode_table(promised, checkout: Checkout, stage: str) -> None:
    promise = promised(
        "No inodes left: said without a stack trace; afterwards the same bytes", "a tmpfs with few inodes"
    )
    expected = checkout.made(stage)
    checkout.forget(stage)
    full, levels = 0, [0, 2, 4, 8, 12]
    for inodes in levels if len(levels) <= FAULTS else random.Random(stage).sample(levels, FAULTS):
        steps = [f"inodes {inodes}", f"{REPRO} --force {stage}", "room", f"{REPRO} {stage}"]
        _, first, _, second = run_in(checkout, steps, [*MADE[stage], "dvc.lock"])
        assert "Traceback" not in first.printed, first.printed
        assert second.status == 0, f"{first.printed}\n---\n{second.printed}"
        assert checkout.made(stage) == expected
        full += first.status != 0
        promise.held(first.status != 0)
    assert full


def test_a_clock_set_back_a_day(promised, checkout: Checkout) -> None:
    promise = promised(
        "A clock set back a day between a kill and the next start changes no byte and loses no record",
        "`time.time` a day slow in all processes of the second start",
    )
    before = len(checkout.mlflow_runs())
    for stage in ("prepare", "train"):
        expected = checkout.made(stage)
        checkout.forget(stage)
        killed = checkout.once_more(stage, FAULT_PROCESS=f"flows.stages.{stage}", KILL_AT="15")
        assert killed.status == -signal.SIGKILL, killed.printed
        again = checkout.once_more(stage, CLOCK_BACK=DAY)
        assert again.status == 0, again.printed
        assert checkout.made(stage) == expected
        promise.held()
    runs = checkout.mlflow_runs()
    assert [run.info.status for run in runs].count("FINISHED") == before + 2
    verified = checkout.ended([str(Path(sys.executable).parent / "lineage"), "verify"])
    assert "0 BROKEN" in verified.printed, verified.printed


def test_a_locked_mlflow_database(promised, checkout: Checkout) -> None:
    promise = promised(
        "MLflow's SQLite locked by another program: the stage does not wait, its record arrives once, afterwards",
        "an exclusive transaction held from before the stage until after it",
    )
    before = len(checkout.mlflow_runs())
    database = sqlite3.connect(checkout.folder / "mlflow.db", isolation_level=None)
    database.execute("BEGIN EXCLUSIVE")
    begun = time.monotonic()
    ended = checkout.once_more("average")
    lasted = time.monotonic() - begun
    assert ended.status == 0, ended.printed
    database.execute("ROLLBACK")
    database.close()
    checkout.forget("average")
    begun = time.monotonic()
    assert checkout.once_more("average").status == 0
    assert lasted < 3 * (time.monotonic() - begun) + 5
    assert [run.data.tags["stage"] for run in checkout.mlflow_runs()[before:]] == ["average", "average"]
    promise.held()


class Memory:
    """The most memory that a process and those below it have held at once, shared pages counted once."""

    def __init__(self, process: psutil.Process) -> None:
        self.most, self._process, self._ended = 0, process, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._ended.wait(0.2):
            total = 0
            for process in [self._process, *self._children()]:
                try:
                    total += process.memory_full_info().pss
                except psutil.Error:
                    continue
            self.most = max(self.most, total)

    def _children(self) -> list[psutil.Process]:
        try:
            return self._process.children(recursive=True)
        except psutil.Error:
            return []

    def end(self) -> int:
        self._ended.set()
        self._thread.join()
        return self.most


def many_lines(folder: Path, count: int) -> None:
    """Distinct pairs of twelve words, in the files of a local corpus."""
    random_ = random.Random(1)
    words = ["".join(random_.choices("abcdefghijklmnoprstuvw", k=random_.randint(2, 9))) for _ in range(20_000)]
    with (folder / "many.en").open("w") as source, (folder / "many.de").open("w") as target:
        for _ in range(count):
            source.write(" ".join(random_.choices(words, k=12)) + "\n")
            target.write(" ".join(random_.choices(words, k=12)) + "\n")


def test_prepare_in_a_gigabyte(promised, tmp_path: Path) -> None:
    promise = promised(
        f"`prepare` of {LINES:,} lines holds less than 1 GB",
        "all its processes on two cores, summed five times a second",
    )
    checkout = Checkout(tiny_files(tmp_path / "checkout").folder)
    params = yaml.safe_load((CHECKOUT / "params.yaml").read_text())
    params["download"]["corpora"], params["evaluation"]["test_sets"] = ["many"], ["many-all"]
    params["preparation"] |= {"valid_share": 0.003, "test_share": 0.003}  # 6000 held-out sentences, as WMT has them
    (checkout.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    (checkout.folder / "data" / "corpora.yaml").write_text("many: {local: {all: {en: many.en, de: many.de}}}\n")
    many_lines(checkout.folder, LINES)
    assert checkout.ended([sys.executable, "-m", "flows.stages.download"]).status == 0
    process = psutil.Popen(
        [sys.executable, "-m", "flows.stages.prepare"],
        cwd=checkout.folder,
        env=checkout.environment,
        preexec_fn=lambda: os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2]),
    )
    memory = Memory(process)
    assert process.wait(timeout=1000) == 0
    most = memory.end()
    assert 50 << 20 < most < MEMORY_BYTES, f"{most / 1e6:.0f} MB"
    promise.held()
