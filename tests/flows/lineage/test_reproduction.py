"""The lock is the proof: whichever way the pipeline runs, dvc.lock comes out the same to the byte; users are told."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from distributed import LocalCluster
from workspace import STAGES, Workspace, tiny_checkout

COMMITTED = ["dvc.lock", *(f"reports/{name}" for name in ("metrics.json", "corpus.json", "tokens.json"))]
COMMITTED += ["reports/training.json", "reports/curves", "reports/plots"]


def lock_of(workspace: Workspace) -> str:
    return (workspace.folder / "dvc.lock").read_text()


@pytest.fixture
def fresh(tmp_path: Path) -> Workspace:
    """A checkout without results or any cache that holds them."""
    return tiny_checkout(tmp_path / "checkout")


@pytest.fixture
def clone(reproduced: Workspace, tmp_path: Path) -> Workspace:
    """A clone of the committed results, without a cache, and with the tiny corpus."""
    reproduced.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    return Workspace(tmp_path / "clone")


def test_a_fresh_clone_ends_with_what_is_committed_and_says_so(clone: Workspace) -> None:
    assert len(clone.repro("--force")) == len(STAGES)
    assert clone.git("status", "--porcelain", "--", *COMMITTED) == ""
    printed = clone.run("python", "-m", "flows.summary")
    count = len([out for stage in yaml.safe_load(lock_of(clone))["stages"].values() for out in stage["outs"]])
    assert printed.splitlines()[-1] == f"reproduced: all {count} outputs are the committed ones, byte for byte"
    path = clone.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["compute"] |= {"threads": 2, "devices": 2}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    assert clone.repro() == []  # only where to compute has changed


def test_outputs_that_are_not_here_are_not_called_reproduced(clone: Workspace) -> None:
    printed = clone.run("python", "-m", "flows.summary").splitlines()
    assert printed[-1].startswith("not here: ")
    assert "models/averaged" in printed[-1]
    assert printed[-1].endswith(": run make repro")
    (clone.folder / "reports" / "metrics.json").unlink()
    printed = clone.run("python", "-m", "flows.summary", succeeds=False)
    assert printed == "error: reports/metrics.json is missing: run make repro\n"


@pytest.fixture
def scheduler() -> Iterator[str]:
    """The address of a Dask cluster of two workers."""
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


@pytest.mark.slow
def test_a_dask_cluster_leaves_the_same_lock(fresh: Workspace, reproduced: Workspace, scheduler: str) -> None:
    path = fresh.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params["compute"] |= {"executor": "dask", "scheduler": scheduler}
    path.write_text(yaml.safe_dump(params, sort_keys=False))
    fresh.dvc("repro")
    assert lock_of(fresh) == lock_of(reproduced)
    record = json.loads((fresh.folder / "reports" / "lineage" / "prepare.json").read_text())
    assert record["params"]["compute"]["executor"] == "dask"


@pytest.mark.slow
def test_a_killed_training_that_goes_on_leaves_the_same_lock(fresh: Workspace, reproduced: Workspace) -> None:
    fresh.dvc("repro", "tokenize")
    stage = subprocess.Popen(
        [sys.executable, "-m", "flows.stages.train"],
        cwd=fresh.folder,
        env=fresh.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert stage.stderr is not None
    next(line for line in iter(stage.stderr.readline, "") if "update 15/" in line)
    stage.send_signal(signal.SIGKILL)
    stage.wait()
    assert "resuming after update" in fresh.dvc("repro")
    assert lock_of(fresh) == lock_of(reproduced)


def test_other_results_are_named_with_their_cause_and_whether_they_matter(clone: Workspace) -> None:
    clone.dvc("exp", "run", "--force", "--quiet", "-S", "training.seed=2")
    printed = clone.run("python", "-m", "flows.summary")
    outputs, cause, *verdicts = printed[printed.index("not the committed results") :].splitlines()
    for path in ("models/checkpoints", "models/averaged", "reports/metrics.json"):
        assert path in outputs
    assert "data/tokens" not in outputs
    assert cause == "likely cause: training.seed 1 → 2"
    assert len(verdicts) == 2
    for line, metric in zip(verdicts, ("BLEU", "chrF2"), strict=True):
        assert line.startswith(f"tiny-test: {metric} ")
        assert "difference (paired bootstrap, p = " in line


@pytest.mark.slow
def test_another_machine_is_a_likely_cause(clone: Workspace) -> None:
    """The committed training says that it ran with bfloat16 and another torch, and has made other checkpoints."""
    lock = clone.folder / "dvc.lock"
    made = yaml.safe_load(lock.read_text())["stages"]["train"]["outs"][0]["md5"]
    path = clone.folder / "reports" / "lineage" / "train.json"
    record = json.loads(path.read_text())
    record["machine"]["packages"]["torch"] = "2.0.0"
    record["measured"]["precision"] = "bfloat16"
    for file, content in ((path, json.dumps(record)), (lock, lock.read_text())):
        file.write_text(content.replace(made, f"{'0' * 32}.dir"))
    clone.git("commit", "--quiet", "--all", "-m", "from another machine")
    clone.repro("--force")
    printed = clone.run("python", "-m", "flows.summary").splitlines()
    assert printed[-2].endswith("outputs differ: models/checkpoints")
    assert printed[-1] == f"likely cause: precision bfloat16 → float32; torch 2.0.0 → {version('torch')}"
