"""A checkout that was moved or copied, below folders of any name, works there and nowhere else."""

import json
import shutil
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from workspace import Workspace

from transformer.files import sha256_of

PATIENCE = 900  # seconds, for a whole retraining on a busy machine
MODEL = "transformer-en-de"
ADDRESSES = """
SELECT artifact_location FROM experiments UNION SELECT artifact_uri FROM runs
UNION SELECT artifact_location FROM logged_models UNION SELECT storage_location FROM model_versions
"""
RETRAIN = """
import json
from flows.retraining.flow import retraining
print(json.dumps(retraining(overrides={"decoding.beam": 1, "decoding.alpha": 0.0})))
"""
LOAD = f"""
import mlflow
from flows.checkout.workspace import tracking_uri
from flows.promotion.registered_model import RegisteredModel
from flows.promotion.translate import Search
from flows.promotion.translations import TranslationCache
from pathlib import Path
registered = RegisteredModel(tracking_uri(), {MODEL!r})
cache = TranslationCache(Path("work/t"), registered, Search("fp32", "cpu"))
print(cache.translate(registered.version("1"), ["the cat sees the old door."]))
"""
FIRST = "not significantly worse than the committed reports/metrics.json, no guard fails"
DRIFT = "from flows.retraining.drift import drift; print('found', drift())"


def addresses(folder: Path) -> list[str]:
    """Where the store of a checkout says that artifacts are."""
    with closing(sqlite3.connect(folder / "mlflow.db")) as store:
        return [address for (address,) in store.execute(ADDRESSES)]


def registry(checkout: Workspace) -> list[str]:
    """All that MLflow keeps of the registered model."""
    with closing(sqlite3.connect(checkout.folder / "mlflow.db")) as store:
        return sorted(line for line in store.iterdump() if "model_" in line or "registered_" in line)


def python(workspace: Workspace, program: str) -> str:
    return workspace.run(sys.executable, "-c", program, seconds=PATIENCE)


def works_here(checkout: Workspace) -> None:
    """Load the registered model, retrain, look for drift, promote, and verify the lineage."""
    assert python(checkout, LOAD).splitlines()[-1].startswith("['")
    before = registry(checkout)
    said = checkout.run(sys.executable, "-m", "flows.promotion", "--dry-run").splitlines()
    assert said[-2:] == ["version 1 would be promoted: " + FIRST, "nothing was changed"]
    assert registry(checkout) == before
    assert "found None" in python(checkout, DRIFT)
    (line,) = (line for line in python(checkout, RETRAIN).splitlines() if line.startswith('{"branch"'))
    decided = json.loads(line)
    assert decided["version"] == "2"
    assert decided["decision"] in ("promoted", "refused")
    assert checkout.run("git", "worktree", "list").count("\n") == 1
    moved = checkout.run(sys.executable, "-m", "flows.promotion", "--to", "1", "--reason", "again")
    assert f"version 1 of {MODEL} is the champion" in moved
    assert "0 BROKEN" in checkout.run("lineage", "verify")
    here = checkout.folder.resolve().as_uri()
    assert all(address.startswith(here) for address in addresses(checkout.folder) if address.startswith("file:"))


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
@pytest.mark.parametrize("name", ["Übersetzung", "a b", "50%20", "ü&1", "link"])
def test_a_copied_checkout_works_below_any_folder(reproduced: Workspace, tmp_path: Path, name: str) -> None:
    before = [sha256_of(reproduced.folder / part) for part in ("mlflow.db", "mlartifacts", "work", ".git")]
    (tmp_path / name).mkdir() if name != "link" else (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    works_here(reproduced.copy_to(tmp_path / name / "checkout"))
    assert [sha256_of(reproduced.folder / part) for part in ("mlflow.db", "mlartifacts", "work", ".git")] == before


@pytest.mark.slow
@pytest.mark.timeout(3 * PATIENCE)
def test_a_moved_checkout_works_where_it_is(reproduced: Workspace, tmp_path: Path) -> None:
    first = reproduced.copy_to(tmp_path / "first" / "checkout")
    python(first, LOAD)
    (tmp_path / "second").mkdir()
    shutil.move(first.folder, tmp_path / "second")
    works_here(Workspace(tmp_path / "second" / "checkout"))
    assert not first.folder.exists()


def test_a_moved_store_names_its_own_artifacts(reproduced: Workspace, tmp_path: Path) -> None:
    original = addresses(reproduced.folder)
    copy = tmp_path / "Übersetzung 50%20" / "ü&1"
    copy.mkdir(parents=True)
    shutil.copy(reproduced.folder / "mlflow.db", copy)
    shutil.copytree(reproduced.folder / "mlartifacts", copy / "mlartifacts")
    checkout = Workspace(copy)
    checkout.environment["TRANSFORMER_WORKSPACE"] = str(copy)
    program = "from flows.checkout.workspace import tracking_uri; print(tracking_uri())"
    for _ in range(2):
        done = Workspace(reproduced.folder)
        done.environment = checkout.environment
        assert done.run(sys.executable, "-c", program) == f"sqlite:///{copy}/mlflow.db\n"
        there = addresses(copy)
        assert [
            address.replace(copy.as_uri(), reproduced.folder.as_uri()) for address in there if "file:" in address
        ] == [address for address in original if "file:" in address]
    assert addresses(reproduced.folder) == original
