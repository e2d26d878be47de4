"""Results are not lost: wrong params cost none, a failed stage's come back alone, damaged copies are never used."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect_server import until
from workspace import Workspace

from flows.checkout.workspace import hold_pipeline_lock
from flows.records.dvc_files import parse_lock, read_lock
from flows.records.hashes import hash_path
from transformer.errors import DataError
from transformer.files import files_below

OUTPUTS = ("data/raw", "data/corpus", "data/tokens", "models", "reports")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file that a person would miss: outputs, reports, params, code, notes; no caches, no history."""
    kept = [
        file for file in files_below(folder) if not {".dvc", ".git", "work"} & set(file.relative_to(folder).parts)
    ]
    return {str(file.relative_to(folder)): file.read_bytes() for file in kept if "mlflow.db" not in file.name}


def locked(workspace: Workspace) -> dict[str, dict[str, str]]:
    text = (workspace.folder / "dvc.lock").read_bytes()
    return {name: stage.outputs for name, stage in parse_lock(text, "dvc.lock").items()}


def change(workspace: Workspace, key: str, value: Any) -> None:
    section, name = key.split(".")
    path = workspace.folder / "params.yaml"
    params = yaml.safe_load(path.read_text())
    params[section][name] = value
    path.write_text(yaml.safe_dump(params, sort_keys=False))


def flip(path: Path) -> None:
    """Change one byte in the middle, as bad memory or a bad disk does."""
    mode = path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(mode)  # DVC trusts what is read-only


@pytest.fixture(scope="module")
def finished(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkout with finished results that nobody has committed: other params than the commit's."""
    made = reproduced.copy_to(tmp_path_factory.mktemp("finished") / "checkout")
    change(made, "evaluation.bootstrap_samples", 101)
    change(made, "decoding.alpha", 0.5)
    assert made.repro() == ["average", "export", "evaluate"]
    (made.folder / "notes.txt").write_text("mine")
    (made.folder / "README.md").write_text("edited")
    return made


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of it."""
    return finished.copy_to(tmp_path / "checkout")


WRONG = [
    ("evaluation.test_sets", ["tiny-tset"], "evaluation.test_sets: tiny has no test set 'tiny-tset'"),
    ("averaging.count", 50, "params.yaml: averaging.count = 50: training.keep_last = 3 keeps too few checkpoints"),
    ("training.seed", 10**23, "params.yaml: training.seed = 100000000000000000000000: input should be less than"),
]


DOORS = (["repro"], ["repro", "--single-item", "--force", "evaluate"], ["exp", "run"])


@pytest.mark.parametrize(("wrong", "door"), list(zip(WRONG, DOORS, strict=True)))
def test_wrong_params_cost_no_result(workspace: Workspace, wrong: tuple[str, object, str], door: list[str]) -> None:
    """However `dvc repro` is called, DVC deletes the stage's outputs before the stage can look at params."""
    key, value, told = wrong
    if door == ["exp", "run"]:
        door = [*door, "-S", f"{key}={value}"]
    else:
        change(workspace, key, value)
    before = contents(workspace.folder)
    printed = workspace.run("dvc", *door, succeeds=False)
    assert told in printed
    assert "Traceback" not in printed
    after = contents(workspace.folder)
    assert after.keys() == before.keys()
    assert [name for name in before if after[name] != before[name]] == ["params.yaml"] * (door[0] == "exp")


@pytest.mark.slow
def test_the_flow_and_make_repro_check_before_they_start_anything(workspace: Workspace) -> None:
    change(workspace, *WRONG[0][:2])
    before = contents(workspace.folder)
    for module in ("flows.pipeline", "flows.stages"):
        printed = workspace.run("python", "-m", module, succeeds=False)
        assert f"error: {WRONG[0][2]}" in printed
        assert "Running stage" not in printed
        assert contents(workspace.folder) == before


@pytest.mark.slow
def test_undo_brings_back_a_failed_stage_and_touches_nothing_else(workspace: Workspace) -> None:
    before = contents(workspace.folder)
    change(workspace, "training.updates", 400)
    process = subprocess.Popen(["dvc", "repro", "train"], cwd=workspace.folder, env=workspace.environment)
    while (workspace.folder / "models/checkpoints").exists() and process.poll() is None:
        pass
    os.kill(process.pid, 9)  # the machine is gone: nothing of ours can clean up
    process.wait()
    shutil.rmtree(workspace.folder / "models" / "checkpoints", ignore_errors=True)
    damaged = contents(workspace.folder)
    assert any(name not in damaged for name in before)
    (workspace.folder / "dvc.lock").touch()
    printed = workspace.run("python", "-m", "flows.restore", "train")
    assert printed.startswith("train: models/checkpoints")
    after = contents(workspace.folder)
    assert [name for name in before if after.get(name) != before[name]] == ["params.yaml"]
    assert after.keys() == before.keys()
    assert workspace.run("python", "-m", "flows.restore") == "all outputs are those of the last run\n"


def test_uncommitted_reports_come_back_too(workspace: Workspace) -> None:
    """DVC does not cache them as outputs, git does not have them yet."""
    before = contents(workspace.folder)
    for path in locked(workspace)["evaluate"]:
        target = workspace.folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    workspace.run("python", "-m", "flows.restore", "evaluate")
    assert contents(workspace.folder) == before


def test_unknown_stages_are_named(workspace: Workspace) -> None:
    printed = workspace.run("python", "-m", "flows.restore", "trian", succeeds=False)
    stages = "download, prepare, parent, tokenize, train, average, export, evaluate"
    assert printed == f"error: trian is not a stage; dvc.yaml has {stages}\n"


def cached(workspace: Workspace, md5: str) -> Path:
    return workspace.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]


def weights(workspace: Workspace) -> Path:
    return workspace.folder / "models" / "averaged" / "model.safetensors"


def test_a_damaged_cache_object_is_computed_again_not_restored(workspace: Workspace) -> None:
    """As `make repro` and the flow do it: no remote is needed."""
    before = contents(workspace.folder)
    flip(cached(workspace, hash_path(weights(workspace)).md5))
    shutil.rmtree(workspace.folder / "models" / "averaged")
    printed = workspace.run("python", "-m", "flows.stages")
    told = "DVC's cache held a damaged copy of models/averaged/model.safetensors: removed"
    assert printed == f"{told}\n"
    assert workspace.repro() == ["average"]
    after = contents(workspace.folder)
    assert [name for name in before if after[name] != before[name] and "lineage" not in name] == []
    workspace.run("python", "-m", "flows.restore", "--check")


@pytest.mark.slow
def test_without_that_check_a_stage_refuses_what_dvc_restored(workspace: Workspace) -> None:
    flip(cached(workspace, hash_path(weights(workspace)).md5))
    shutil.rmtree(workspace.folder / "models" / "averaged")
    change(workspace, "evaluation.bootstrap_samples", 102)
    before = contents(workspace.folder)
    printed = workspace.run("dvc", "repro", succeeds=False)
    told = "models/averaged is not what stage average wrote (dvc.lock): `python -m flows.restore average`"
    assert told in printed
    assert "Traceback" not in printed
    after = contents(workspace.folder)
    assert [name for name in before if after[name] != before[name] and "lineage" not in name] == []
    assert told in workspace.run("python", "-m", "flows.restore", "--check", succeeds=False)
    printed = workspace.run("python", "-m", "flows.restore", "average", succeeds=False)
    assert "average: no whole copy of models/averaged is left here: dvc pull, or dvc repro average" in printed
    assert workspace.repro() == ["average", "evaluate"]


def test_a_damaged_cache_object_is_mended_from_the_workspace(workspace: Workspace) -> None:
    whole = hash_path(weights(workspace)).md5
    listing = locked(workspace)["average"]["models/averaged"]
    flip(cached(workspace, whole))
    flip(cached(workspace, listing))
    printed = workspace.run("python", "-m", "flows.restore", "average")
    assert printed.count("replaced by a whole one") == 2
    assert hash_path(cached(workspace, whole)).md5 == whole
    assert f"{hash_path(cached(workspace, listing)).md5}.dir" == listing


@pytest.mark.slow
def test_the_flow_does_the_same(workspace: Workspace) -> None:
    flip(cached(workspace, hash_path(weights(workspace)).md5))
    shutil.rmtree(workspace.folder / "models" / "averaged")
    printed = workspace.run("python", "-m", "flows.pipeline")
    assert "DVC's cache held a damaged copy of models/averaged/model.safetensors: removed" in printed
    assert "average: completed" in printed.splitlines()


@pytest.mark.slow
def test_a_second_make_repro_waits_for_the_first(workspace: Workspace) -> None:
    told: list[str] = []
    lock = hold_pipeline_lock(workspace.folder, told.append)
    with (workspace.folder / "printed").open("w+") as printed:
        second = subprocess.Popen(
            [sys.executable, "-m", "flows.stages", "repro"],
            cwd=workspace.folder,
            env=workspace.environment,
            stdout=printed,
            stderr=printed,
        )
        path = workspace.folder / "printed"
        until(lambda: "another pipeline runs" in path.read_text(), what="the second one's word")
        assert second.poll() is None
        os.close(lock)
        assert second.wait(200) == 0
    assert told == []
    lines = path.read_text().splitlines()
    assert lines[0] == "another pipeline runs in this workspace: waiting for its end"
    assert lines[-1] == "Data and pipelines are up to date."


@pytest.mark.slow
def test_the_cure_for_a_full_disk_keeps_finished_experiments(workspace: Workspace) -> None:
    """docs/operations.md: what it says is what is run here."""
    workspace.git("add", ".")
    workspace.git("commit", "-m", "results")
    workspace.run("dvc", "exp", "run", "--name", "other", "-S", "decoding.alpha=0.1")
    model = hash_path(weights(workspace)).md5
    lock = locked(workspace)["average"]["models/averaged"]
    workspace.run("git", "checkout", "--quiet", "--force", "main")
    workspace.run("dvc", "checkout", "--force")
    assert locked(workspace)["average"]["models/averaged"] != lock
    row = next(
        line
        for line in (Path(__file__).parents[3] / "docs/operations.md").read_text().splitlines()
        if line.startswith("| disk full")
    )
    cure = row.split("`")[1]
    assert cure.startswith("dvc gc ")
    workspace.run(*cure.split(), "--force")
    assert cached(workspace, lock).exists()
    assert hash_path(cached(workspace, model)).md5 == model


def test_a_lock_that_is_being_rewritten_is_read_once_it_is_whole(tmp_path: Path) -> None:
    """DVC empties dvc.lock and writes it in place when a stage ends, beside which another one begins."""
    whole = (
        "schema: '2.0'\nstages:\n  export:\n    cmd: run\n    outs:\n    - path: models/export\n      md5: "
        + "a" * 32
    )
    lock = tmp_path / "dvc.lock"
    lock.write_text("")
    writer = threading.Timer(0.4, lock.write_text, [whole])
    writer.start()
    assert read_lock(lock)["export"].outputs == {"models/export": "a" * 32}
    writer.join()
    lock.write_text("stages")
    with pytest.raises(DataError, match=r"dvc\.lock is malformed"):
        read_lock(lock)
    lock.unlink()
    assert read_lock(lock) == {}
