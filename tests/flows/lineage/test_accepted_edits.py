"""`lineage accept`: an edit that somebody answers for is no broken link; any other, and any other pair, is one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tampered_project import Scene, restore
from workspace import Workspace

from flows.lineage.cli import main
from flows.signatures.keys import KEY_VARIABLE, generate
from flows.signatures.policy import entry

LAYERS = "transformer/model/layers.py"
MODEL_CODE = ("train", "average", "export", "evaluate")  # the stages that depend on transformer/model


@pytest.fixture(scope="module")
def project(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("accepted") / "checkout")
    signer = generate(workspace.folder.parent / "key.pem", workspace.folder)
    (workspace.folder / "signers.yaml").write_text(f"signers:\n{entry('alice', signer.public_key)}\n")
    workspace.git("add", ".")
    workspace.git("commit", "-qm", "who signs")
    workspace.run("cp", "-r", str(workspace.folder), str(workspace.folder.parent / "pristine"))
    return workspace


@pytest.fixture
def scene(project: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setenv(KEY_VARIABLE, str(project.folder.parent / "key.pem"))
    yield Scene(project.enter(monkeypatch))
    restore(project.folder.parent / "pristine", project.folder)


def edit(scene: Scene) -> None:
    path = scene.root / LAYERS
    scene.write(path, path.read_bytes() + b"\n# a remark\n")


def verified(capsys: pytest.CaptureFixture[str], *options: str) -> tuple[int, list[str]]:
    capsys.readouterr()
    return main(["verify", *options]), capsys.readouterr().out.splitlines()


def test_an_accepted_edit_is_named_instead_of_broken(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    edit(scene)
    assert verified(capsys)[0] == 2
    assert main(["accept", "transformer/model", "--reason", "a remark\n  only"]) == 0
    assert [line.split(": ")[1] for line in capsys.readouterr().out.splitlines()] == list(MODEL_CODE)
    status, lines = verified(capsys)
    said = "transformer/model (workspace) accepted by alice: a remark only"
    assert lines[:-1] == [f"{stage}: {said}" for stage in MODEL_CODE]
    assert (status, ", 4 accepted, " in lines[-1]) == (0, True)
    scene.workspace.git("add", ".")
    scene.workspace.git("commit", "-qm", "a remark")
    status, lines = verified(capsys, "HEAD")
    assert (status, sum("accepted by alice" in line for line in lines)) == (0, 4)


def test_what_an_editor_leaves_beside_the_code_is_no_part_of_an_edit(
    scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(scene)
    (scene.root / LAYERS).with_name(".layers.py.swp").write_text("")
    assert main(["accept", "transformer/model", "--reason", "a remark"]) == 0
    (scene.root / LAYERS).with_name(".layers.py.swp").unlink()
    assert verified(capsys)[0] == 0


def test_after_dvc_commit_too(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    """DVC takes the edited code for what the outputs were made with; the records still tell the other."""
    edit(scene)
    main(["accept", LAYERS, "--reason", "a remark"])
    scene.workspace.dvc("commit", "--force", *MODEL_CODE)
    status, lines = verified(capsys)
    assert status == 0, lines
    assert "train: inputs (dvc.lock) accepted by alice: a remark" in lines


def test_one_more_edit_is_broken_again(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    edit(scene)
    main(["accept", "train", "--reason", "a remark"])
    status, lines = verified(capsys)
    assert status == 2  # the other stages' code was not accepted
    assert [line.partition(":")[0] for line in lines if " BROKEN: " in line] == list(MODEL_CODE[1:])
    edit(scene)
    _, lines = verified(capsys)
    assert [line.partition(":")[0] for line in lines if " BROKEN: " in line] == list(MODEL_CODE)


def test_an_acceptance_covers_no_output(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    edit(scene)
    main(["accept", "transformer/model", "--reason", "a remark"])
    scene.flip("reports/metrics.json")
    status, lines = verified(capsys)
    assert status == 2
    assert any(line.startswith("evaluate: reports/metrics.json (workspace) BROKEN") for line in lines)


def test_an_unsigned_acceptance_is_named_so(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "")
    edit(scene)
    main(["accept", "transformer/model", "--reason", "a remark"])
    assert "(unsigned: lineage keygen makes a key)" in capsys.readouterr().out
    status, lines = verified(capsys)
    assert status == 0
    said = "train: transformer/model (workspace) unsigned: accepted by t: a remark, which nobody signed"
    assert said in lines
    assert verified(capsys, "--require-signatures")[0] == 2


def test_a_forged_acceptance_accepts_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mallory = scene.root.parent / "mallory.pem"
    if not mallory.exists():
        generate(mallory, scene.root)
    monkeypatch.setenv(KEY_VARIABLE, str(mallory))
    edit(scene)
    main(["accept", "transformer/model", "--reason", "a remark"])
    status, lines = verified(capsys)
    assert status == 2
    assert any(
        "accepted.jsonl (workspace) BROKEN: signed by a key that signers.yaml does not name" in x for x in lines
    )
    assert any(line.startswith("train: transformer/model (workspace) BROKEN") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian", "--reason", "x"], "trian is neither a stage nor code that one depends on; did you mean train?"),
        (["data/tokens", "--reason", "x"], "data/tokens is neither a stage nor code"),
        (["train", "--reason", "x"], "there is nothing to accept: train is what the stages ran with"),
        (["train", "--reason", " "], "--reason is empty"),
    ],
)
def test_nothing_is_accepted_by_mistake(
    arguments: list[str], says: str, scene: Scene, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["accept", *arguments]) > 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert not Path("reports/lineage/accepted.jsonl").exists()
