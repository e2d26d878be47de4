"""A full disk: one line that says so, nothing that is half, and with room again the bytes of an undisturbed run."""

import random
import shutil
import sys

import mlflow
import pytest
from faulty_checkout import FAULTS, MADE, Checkout
from small_disk import run_in, unavailable
from workspace import STAGES

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(unavailable() is not None, reason=str(unavailable())),
]
REPRO = f"{sys.executable} -m dvc repro --single-item"
SEND = f"{sys.executable} -m flows.tracking.send --wait"
# Kilobytes that are free when the stage starts: each meets another of its writes, and of DVC's.
FREE = {
    "download": [0, 4, 20, 40, 60, 80],
    "prepare": [0, 8, 40, 80, 120, 160, 200],
    "parent": [0, 4, 8],
    "tokenize": [0, 8, 40, 120, 200, 280],
    "train": [0, 40, 200, 600, 1000, 1400, 1800, 2200],
    "average": [0, 40, 100, 300, 500, 700],
    "export": [0, 4, 8],
    "evaluate": [0, 20, 60, 120, 250, 400, 600],
}


def says_full(printed: str) -> bool:
    """DVC and its SQLite have words of their own for a full disk; the stages have one line."""
    return any(
        words in printed
        for words in ("disk is full", "disk I/O error", "No space left on device", "room", "cache link types")
    )


def some(levels: list[int], seed: str) -> list[int]:
    """At most FAULTS of them, chosen at random."""
    return levels if len(levels) <= FAULTS else random.Random(seed).sample(levels, FAULTS)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", STAGES)
def test_a_full_disk_costs_nothing_but_time(checkout: Checkout, promised, stage: str) -> None:
    promise = promised(
        f"`{stage}` on a full disk says so without a stack trace, and with room again makes the same bytes",
        "checkout, DVC's cache, MLflow's database and temporary files on a small tmpfs, filled up to several levels",
    )
    expected = checkout.made(stage)
    checkout.forget(stage)
    full = 0
    for kilobytes in some(FREE[stage], stage):
        repro = f"{REPRO} --force {stage}"
        steps = [f"leave {kilobytes}", repro, "room", f"{REPRO} {stage}"]
        ended = run_in(checkout, steps, [*MADE[stage], "dvc.lock"])
        assert "Traceback" not in ended[1].printed, f"{kilobytes}: {ended[1].printed}"
        if ended[1].status != 0:
            assert says_full(ended[1].printed), f"{kilobytes}: {ended[1].printed}"
            full += 1
        assert ended[3].status == 0, f"{kilobytes}: {ended[1].printed}\n---\n{ended[3].printed}"
        assert checkout.made(stage) == expected, kilobytes
        promise.held(ended[1].status != 0)
    assert full


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("stage", "folder", "levels"),
    [
        ("download", "work/downloads", [0, 4, 8]),
        ("prepare", "work/prepare", [0, 4, 20, 40, 60]),
        ("tokenize", "work/tokenize", [0, 4, 20, 260, 300]),
        ("train", "work/training", [0, 100, 300, 500, 700]),
        ("train", "models", [0, 40, 80]),
        ("average", "models", [0, 40, 80]),
        ("evaluate", "reports", [0, 8, 40, 100]),
        ("train", ".dvc/cache", [0, 8, 100, 200]),
    ],
)
def test_a_full_folder_is_told_in_one_line(
    checkout: Checkout, promised, stage: str, folder: str, levels: list[int]
) -> None:
    promise = promised(
        f"`{stage}` with no room in `{folder}` ends in one line, and with room again makes the same bytes",
        "the folder on a small tmpfs, filled up to several levels",
    )
    expected = checkout.made(stage)
    checkout.forget(stage)
    full = 0
    for kilobytes in some(levels, f"{stage} {folder}"):
        # DVC deletes the stage's outputs first, which would make room.
        deleted = " ".join(MADE[stage])
        steps = [f"own {folder}; rm -rf {deleted}; leave {kilobytes}", f"{REPRO} --force {stage}"]
        steps += ["room", f"{REPRO} {stage}"]
        _, first, _, second = run_in(checkout, steps, [*MADE[stage], "dvc.lock"])
        if first.status != 0:
            full += 1
            assert says_full(first.in_one_line() if folder != ".dvc/cache" else first.printed), first.printed
        assert second.status == 0, f"{kilobytes}: {first.printed}\n---\n{second.printed}"
        assert checkout.made(stage) == expected, kilobytes
        promise.held(first.status != 0)
    assert full


@pytest.mark.timeout(600)
def test_a_full_mlflow_database_costs_no_record(checkout: Checkout, promised) -> None:
    promise = promised(
        "MLflow's database full: the stage succeeds, its record waits and arrives when there is room",
        "`mlflow.db` on a small tmpfs, filled up to several levels",
    )
    known, waited = {run.info.run_id for run in checkout.mlflow_runs()}, 0
    for kilobytes in some([0, 4, 8, 32], "mlflow"):
        store = "export MLFLOW_TRACKING_URI=sqlite:///$PLACE/checkout/store/mlflow.db"
        steps = ["own store", f"cp mlflow.db store/; {store}; leave {kilobytes}", f"{REPRO} --force average"]
        steps += [SEND, "room", SEND, "cp store/mlflow.db mlflow.db"]
        _, _, stage, full, _, sent, _ = run_in(checkout, steps, ["mlflow.db", "work/tracking"])
        assert stage.status == 0, stage.printed
        assert "Traceback" not in full.printed, full.printed
        assert sent.status == 0, sent.printed
        # Through another path: a pooled connection would still read the file that was replaced.
        shutil.copy(checkout.folder / "mlflow.db", checkout.folder.parent / f"read-{kilobytes}.db")
        read = mlflow.MlflowClient(tracking_uri=f"sqlite:///{checkout.folder.parent}/read-{kilobytes}.db")
        found = read.search_runs([one.experiment_id for one in read.search_experiments()])
        new = [run for run in found if run.info.run_id not in known and "stage" in run.data.tags]
        assert [(run.data.tags["stage"], run.info.status) for run in new] == [("average", "FINISHED")], kilobytes
        assert "output.models/averaged" in new[0].data.tags
        known |= {run.info.run_id for run in new}
        waited += full.status != 0  # with which `send --wait` says that a record waits
        promise.held(full.status != 0)
    assert waited
