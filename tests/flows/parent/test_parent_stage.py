"""The stage `parent` in a whole checkout: names of every kind, the chain behind the chain, and the way back."""

import json
from pathlib import Path

import pytest
import yaml
from workspace import Workspace

from flows.lineage.chain import Chain
from flows.lineage.project import Project
from flows.lineage.show import as_json, mermaid
from flows.lineage.targets import resolve
from flows.parent.sources import found_model
from transformer.errors import DataError, ParamsError
from transformer.files import sha256_of

pytestmark = pytest.mark.timeout(900)  # of whole checkouts


def with_params(checkout: Workspace, **changed: dict[str, object]) -> None:
    path = checkout.folder / "params.yaml"
    content = yaml.safe_load(path.read_text())
    for section, values in changed.items():
        content[section].update(values)
    path.write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.fixture(scope="module")
def first(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkout with a model: its commit has the tag v1, and the registry its version 1."""
    made = reproduced.copy_to(tmp_path_factory.mktemp("parent") / "checkout")
    made.git("tag", "v1")
    return made


@pytest.mark.parametrize(
    ("asked", "resolved"),
    [
        ("models/averaged", "models/averaged"),
        ("transformer-en-de/1", "transformer-en-de/1"),
        ("models:/transformer-en-de/1", "transformer-en-de/1"),
        ("v1", None),
        ("main", None),
        ("HEAD", None),
    ],
)
def test_every_name_of_a_model_leads_to_its_bytes(
    first: Workspace, monkeypatch: pytest.MonkeyPatch, asked: str, resolved: str | None
) -> None:
    monkeypatch.chdir(first.folder)
    expected = sha256_of(first.folder / "models" / "averaged")
    with found_model(Project(first.folder), asked) as model:
        assert sha256_of(model.folder) == expected
        assert model.resolved == (resolved or first.git("rev-parse", "HEAD").strip())


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("transformer-en-de/7", "there is nothing of that name; .*; did you mean transformer-en-de/1?"),
        ("transformer-en-de@champion", "there is nothing of that name; .*; did you mean transformer-en-de/1?"),
        ("transfomer-en-de/1", "; did you mean transformer-en-de/1?"),
        ("maim", "; did you mean main?"),
        ("models/average", "; did you mean models/averaged?"),
        ("data/raw", "no model folder, it has no config.json; name one such as models/averaged"),
        ("HEAD~1", "its dvc.lock has no models/averaged: no model had been made at "),
        ("--help", "there is nothing of that name"),
    ],
)
def test_a_name_of_no_model_is_one_line(
    first: Workspace, monkeypatch: pytest.MonkeyPatch, asked: str, words: str
) -> None:
    monkeypatch.chdir(first.folder)
    with pytest.raises(ParamsError, match=words) as told, found_model(Project(first.folder), asked):
        pass
    assert str(told.value).startswith(f"training.start_from = {asked!r}: ")
    assert "\n" not in str(told.value)


def test_a_retrainings_worktree_asks_the_registry_of_its_workspace(
    first: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first.git("worktree", "add", "--quiet", "--detach", str(tmp_path / "worktree"))
    monkeypatch.chdir(tmp_path / "worktree")
    monkeypatch.setenv("TRANSFORMER_WORKSPACE", str(first.folder))
    with found_model(Project(Path.cwd()), "transformer-en-de/1") as model:
        assert sha256_of(model.folder) == sha256_of(first.folder / "models" / "averaged")
    first.git("worktree", "remove", str(tmp_path / "worktree"))


def test_a_damaged_version_and_a_lost_revision_are_one_line(
    first: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = first.copy_to(tmp_path / "checkout")
    monkeypatch.chdir(made.folder)
    (weights,) = made.folder.glob("mlartifacts/**/artifacts/model/model.safetensors")
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    with (
        pytest.raises(DataError, match="transformer-en-de/1 is damaged: registered with"),
        found_model(Project(made.folder), "transformer-en-de/1"),
    ):
        pass
    lock = yaml.safe_load((made.folder / "dvc.lock").read_text())
    md5 = lock["stages"]["average"]["outs"][0]["md5"]
    (made.folder / ".dvc" / "cache" / "files" / "md5" / md5[:2] / md5[2:]).unlink()
    with (
        pytest.raises(DataError, match="is neither in DVC's cache nor in its remote: dvc fetch --all-commits"),
        found_model(Project(made.folder), "v1"),
    ):
        pass


@pytest.fixture(scope="module")
def second(first: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The checkout after a training that started from v1, its results committed."""
    made = first.copy_to(tmp_path_factory.mktemp("second") / "checkout")
    with_params(made, training={"start_from": "v1", "updates": 20})
    assert made.repro("average") == ["parent", "tokenize", "train", "average"]
    made.send()  # so that nothing writes to the store while it is copied
    made.git("add", ".")
    made.git("commit", "-m", "warm")
    return made


@pytest.mark.slow
def test_a_second_repro_runs_nothing_and_a_forced_one_trains_nothing(second: Workspace, tmp_path: Path) -> None:
    made = second.copy_to(tmp_path / "checkout")
    assert made.repro("average") == []
    assert made.repro("--single-item", "--force", "parent") == ["parent"]
    assert made.repro("average") == []


def chain_of(checkout: Workspace, path: str = "models/averaged") -> Chain:
    return resolve(Project(checkout.folder), str(checkout.folder / path))


def stages(chain: Chain) -> list[str]:
    return [step.stage for step in chain.steps]


def test_the_chain_of_the_parent_stands_behind_the_chain(second: Workspace, first: Workspace) -> None:
    chain = chain_of(second)
    assert stages(chain) == ["download", "prepare", "parent", "tokenize", "train", "average"]
    parent = chain.parent
    assert parent
    assert parent.name == first.git("rev-parse", "v1").strip()
    assert stages(parent) == ["download", "prepare", "parent", "tokenize", "train", "average"]
    of_first = chain_of(first)
    assert [step.outputs for step in parent.steps] == [step.outputs for step in of_first.steps]
    assert [step.record and step.record.digest for step in parent.steps] == [
        step.record and step.record.digest for step in of_first.steps
    ]  # not the later execution of tokenize, which made equal tokens
    assert parent.parent is None
    assert as_json(chain)["parent"]["steps"][-1]["outputs"] == of_first.steps[-1].outputs
    assert mermaid(chain).count("models/averaged") == 2
    shown = second.run("lineage", "show", "models/averaged")
    assert f"from {parent.name}\n" in shown
    for form in ("openlineage", "prov", "ro-crate"):
        second.run("lineage", "export", "models/averaged", "--format", form, "--output", f"../{form}")
    second.run("lineage", "show", "models/averaged", "--html", "../page.html")
    assert "Of the parent, " in (second.folder.parent / "page.html").read_text()


def test_verify_walks_through_the_parent(second: Workspace, tmp_path: Path) -> None:
    second.send()
    lines = second.run("lineage", "verify", "models/averaged", "--all")
    assert "parent train: models/checkpoints (cache) ok" in lines
    assert " 0 missing, 0 BROKEN" in lines
    broken = second.copy_to(tmp_path / "checkout")
    weights = broken.folder / "models" / "parent" / "model" / "model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(b"x" + weights.read_bytes()[1:])
    lines = broken.run("lineage", "verify", "models/averaged", succeeds=False)
    assert "parent: models/parent (workspace) BROKEN: model/model.safetensors: expected" in lines


@pytest.mark.slow
def test_reproduce_walks_through_the_parent_although_its_name_has_moved(second: Workspace, tmp_path: Path) -> None:
    made = second.copy_to(tmp_path / "checkout")
    made.git("tag", "--force", "v1", "HEAD")
    lines = made.run("lineage", "reproduce", "models/averaged")
    assert "parent train: models/checkpoints (reproduced) ok" in lines
    assert "train: models/checkpoints (reproduced) ok" in lines
    assert lines.rstrip().endswith(" 0 missing, 0 BROKEN")


@pytest.mark.slow
def test_a_model_of_another_checkout_brings_its_records(second: Workspace, tmp_path: Path) -> None:
    """Whose git and MLflow this checkout does not know."""
    made = second.copy_to(tmp_path / "elsewhere")
    other = second.copy_to(tmp_path / "checkout")
    for path in ("reports/lineage", "mlflow.db"):
        other.run("rm", "-r", path)
    other.run("rm", "-rf", ".git")
    other.git("init", "-b", "main")
    other.run("dvc", "config", "core.analytics", "false")
    with_params(other, training={"start_from": str(made.folder / "models" / "averaged")})
    assert other.repro("--single-item", "parent") == ["parent"]
    names = {path.name for path in (other.folder / "models" / "parent" / "lineage").rglob("*.json")}
    assert names == {f"{stage}.json" for stage in ("download", "prepare", "parent", "tokenize", "train", "average")}
    chain = chain_of(other, "models/parent")
    assert chain.parent
    assert stages(chain.parent)[-1] == "average"


def test_the_description_says_what_a_name_stood_for(second: Workspace) -> None:
    content = json.loads((second.folder / "models" / "parent" / "parent.json").read_text())
    assert content["start_from"] == "v1"
    assert content["resolved"] == second.git("rev-parse", "v1").strip()
    assert content["sha256"] == sha256_of(second.folder / "models" / "parent" / "model")
    listed = json.loads((second.folder / "models" / "averaged" / "averaged.json").read_text())
    assert listed["parent"] == {"name": content["resolved"], "sha256": content["sha256"]}
