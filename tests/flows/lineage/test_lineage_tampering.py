"""Tampered projects: each test plants one change in a real, reproduced and published project, and it has to be found.

The project is put back between the tests at the same path; MLflow's store stays and tests undo what they did to it.
"""

import hashlib
import shutil
from typing import Any

import pytest
from tampered_project import Scene, Tamper, Tampering
from workspace import STAGES

from flows.lineage.cli import main


def edit_text(path: str, old: str, new: str) -> Tamper:
    return lambda scene: scene.replace(path, old, new)


def byte_of(path: str, says: str | None = None) -> Tampering:
    return Tampering(f"a byte of {path}", lambda scene: scene.flip(path), says or f"{path} (workspace) BROKEN: ")


def byte_in(folder: str, file: str) -> Tampering:
    path = f"{folder}/{file}"
    return Tampering(f"a byte of {path}", lambda scene: scene.flip(path), f"{folder} (workspace) BROKEN: {file}: ")


def out(stages: Any, stage: str, path: str) -> Any:
    """A stage's output in dvc.lock."""
    return next(one for one in stages[stage]["outs"] if one["path"] == path)


BYTES = [
    byte_in("models/averaged", "model.safetensors"),
    byte_in("models/averaged", "config.json"),
    byte_in("models/averaged", "spm.model"),
    byte_in("models/averaged", "model_card.md"),
    byte_in("models/averaged", "averaged.json"),
    byte_in("models/averaged", "decoding.json"),
    byte_in("models/checkpoints", "update-00000030.safetensors"),
    byte_in("models/checkpoints", "index.json"),
    byte_in("data/tokens", "train.source.ids.npy"),
    byte_in("data/tokens", "spm.model"),
    byte_in("data/corpus", "train.parquet"),
    byte_in("data/raw", "tiny/train.en"),
    byte_in("data/raw", "parts.json"),
    byte_of("data/manifest.json"),
    byte_of("data/corpora.yaml"),
    byte_of("flows/stages/train.py"),
    byte_in("transformer/model", "layers.py"),
    byte_of("reports/metrics.json"),
    byte_of("reports/training.json"),
    byte_in("reports/curves", "training.csv"),
    byte_in("reports/plots", "loss.png"),
    byte_in("reports/translations", "tiny-test.jsonl"),
    byte_of("tiny/train.en", "tiny/train.en (the file itself) BROKEN: sha256: "),
]


def swap_checkpoints(scene: Scene) -> None:
    first, second, *_ = sorted((scene.root / "models" / "checkpoints").glob("update-*"))
    scene.swap(first, second)


def swap_splits(scene: Scene) -> None:
    scene.swap(scene.root / "data/corpus/test.parquet", scene.root / "data/corpus/valid.parquet")


def add_file(scene: Scene) -> None:
    (scene.root / "models/averaged/extra.json").write_text("{}")


def forge_model_and_lock(scene: Scene) -> None:
    """A changed report whose new hash was put into dvc.lock."""
    scene.flip("reports/metrics.json")
    md5 = hashlib.md5((scene.root / "reports/metrics.json").read_bytes()).hexdigest()
    scene.lock(lambda stages: out(stages, "evaluate", "reports/metrics.json").update(md5=md5))


FILES = [
    Tampering("swapped checkpoints", swap_checkpoints, "models/checkpoints (workspace) BROKEN: update-"),
    Tampering("swapped splits", swap_splits, "data/corpus (workspace) BROKEN: test.parquet: "),
    Tampering("a file added", add_file, "models/averaged (workspace) BROKEN: extra.json: expected nothing"),
    Tampering(
        "a file removed",
        lambda scene: (scene.root / "models/averaged/config.json").unlink(),
        "models/averaged (workspace) BROKEN: config.json: ",
    ),
    Tampering(
        "a folder removed",
        lambda scene: shutil.rmtree(scene.root / "data/tokens"),
        "data/tokens (workspace) missing",
        1,
    ),
    Tampering(
        "params", edit_text("params.yaml", "updates: 40", "updates: 41"), "params (workspace) BROKEN: training.up"
    ),
    Tampering(
        "a stage's command",
        edit_text("dvc.yaml", "-m flows.stages.train", "-m flows.stages.trian"),
        "command in dvc.yaml (its definition) BROKEN",
    ),
    Tampering(
        "a dependency dropped",
        edit_text("dvc.yaml", "      - transformer/training\n", ""),
        "deps in dvc.yaml (its definition) BROKEN",
    ),
    Tampering(
        "lock: output",
        lambda s: s.lock(lambda x: out(x, "average", "models/averaged").update(md5="0" * 32 + ".dir")),
        "average: outputs (dvc.lock at HEAD) BROKEN: models/averaged: ",
    ),
    Tampering(
        "lock: input",
        lambda s: s.lock(lambda x: x["train"]["deps"][0].update(md5="0" * 32 + ".dir")),
        "train: inputs (dvc.lock) BROKEN: data/tokens: ",
    ),
    Tampering(
        "lock: param",
        edit_text("dvc.lock", "          updates: 40", "          updates: 41"),
        "train: params (dvc.lock) BROKEN: training.updates: expected 40 found 41",
    ),
    Tampering(
        "lock: command", edit_text("dvc.lock", "flows.stages.average", "flows.stages.avg"), "(dvc.lock) BROKEN"
    ),
    Tampering(
        "lock: a stage removed", lambda s: s.lock(lambda x: x.pop("tokenize")), "tokenize: entry (dvc.lock) BROKEN"
    ),
    Tampering("lock and file", forge_model_and_lock, "outputs (dvc.lock at HEAD) BROKEN: reports/metrics.json"),
]


def swap_records(scene: Scene) -> None:
    folder = scene.root / "reports/lineage"
    scene.swap(folder / "train.json", folder / "average.json")


def forge_and_commit(scene: Scene) -> None:
    scene.record("train", lambda record: record.update(seed=2), forge=True)
    scene.commit()


def orphan(scene: Scene) -> None:
    """The branch points to a commit without a past, whose code is another."""
    before = (scene.root / "transformer/model/layers.py").read_bytes()
    scene.flip("transformer/model/layers.py")
    scene.workspace.git("add", "-u")
    tree = scene.workspace.git("write-tree").strip()
    commit = scene.workspace.git("commit-tree", "-m", "all new", tree).strip()
    scene.workspace.git("update-ref", "refs/heads/main", commit)
    scene.write("transformer/model/layers.py", before)


def no_commit(scene: Scene) -> None:
    """The object of the commit that the stages ran on is gone."""
    commit = scene.workspace.git("rev-parse", "main~2").strip()
    (scene.root / ".git/objects" / commit[:2] / commit[2:]).unlink()


def committed_lock(scene: Scene) -> None:
    scene.lock(lambda stages: out(stages, "prepare", "data/corpus").update(md5="0" * 32 + ".dir"))
    scene.commit()


def rewritten(scene: Scene) -> None:
    """The results' commit was replaced by one with another dvc.lock."""
    scene.workspace.git("reset", "-q", "--soft", "main~2")
    scene.replace("dvc.lock", "          updates: 40", "          updates: 4000")
    scene.commit()
    scene.replace("dvc.lock", "          updates: 4000", "          updates: 40")


PAST = [
    Tampering(
        "record: a hash",
        lambda s: s.record("average", lambda r: r["outputs"][0].update(md5="0" * 32 + ".dir")),
        "reports/lineage/average.json (its digest) BROKEN",
    ),
    Tampering(
        "record: the machine", lambda s: s.record("train", lambda r: r["machine"].update(gpus=["H100"])), "BROKEN"
    ),
    Tampering(
        "record: forged",
        lambda s: s.record("train", lambda record: record.update(seed=2), forge=True),
        "train: record (git) BROKEN",
    ),
    Tampering("record: forged and committed", forge_and_commit, "train: record (git) BROKEN"),
    Tampering(
        "record: removed",
        lambda s: (s.root / "reports/lineage/train.json").unlink(),
        "reports/lineage/train.json (workspace) missing",
        1,
    ),
    Tampering("record: swapped", swap_records, "reports/lineage/train.json (its stage) BROKEN"),
    Tampering(
        "record: cut off",
        lambda s: s.write("reports/lineage/train.json", b"{"),
        "reports/lineage/train.json (workspace) BROKEN",
    ),
    Tampering(
        "record: the run",
        lambda s: s.record("train", lambda r: r["runs"].update(mlflow=s.run("average"))),
        "train: tags (MLflow run",
    ),
    Tampering(
        "git: branch without a past and with other code", orphan, "commit (git) BROKEN: expected a history with"
    ),
    Tampering("git: a lost commit", no_commit, "commit (git) missing: this repository has no commit", 1),
    Tampering("git: committed lock", committed_lock, "data/corpus (made by prepare) BROKEN"),
    Tampering("git: rewritten history", rewritten, "train: params (dvc.lock at "),
]


def corrupt(place: str, path: str, inner: str | None = None) -> Tampering:
    name = {"cache": "cache", "remote": "remote store"}[place]
    return Tampering(
        f"{place}: {path} {inner or ''}",
        lambda scene: scene.flip(scene.object(place, path, inner)),
        f"{path} ({name}) BROKEN: {f'{inner}: ' if inner else ''}expected ",
    )


def lose(place: str, path: str, inner: str | None = None) -> Tampering:
    name = {"cache": "cache", "remote": "remote store"}[place]
    return Tampering(
        f"{place}: {path} {inner or ''} lost",
        lambda scene: scene.object(place, path, inner).unlink(),
        f"{path} ({name}) missing: ",
        1,
    )


def swap_objects(scene: Scene) -> None:
    scene.swap(
        scene.object("cache", "data/corpus", "train.parquet"), scene.object("cache", "data/corpus", "valid.parquet")
    )


PLACES = [
    corrupt("cache", "models/averaged", "model.safetensors"),
    corrupt("cache", "models/averaged"),
    corrupt("cache", "data/manifest.json"),
    corrupt("cache", "data/raw", "tiny/test.de"),
    lose("cache", "models/checkpoints", "index.json"),
    Tampering("cache: swapped objects", swap_objects, "data/corpus (cache) BROKEN: train.parquet: "),
    corrupt("remote", "models/averaged", "model.safetensors"),
    corrupt("remote", "data/tokens"),
    lose("remote", "data/manifest.json"),
    Tampering(
        "remote: gone",
        lambda scene: shutil.rmtree(scene.root / "remote"),
        "models/averaged (remote store) missing: ",
        1,
    ),
]
TAMPERINGS = [*BYTES, *FILES, *PAST, *PLACES]


def test_an_untouched_project_is_ok(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    status, counts = main(["verify"]), capsys.readouterr().out.split(", ")[1:]
    assert (status, counts) == (0, [f"{len(STAGES)} unsigned", "0 missing", "0 BROKEN\n"])


def test_there_are_enough_and_all_differ() -> None:
    assert len({tampering.name for tampering in TAMPERINGS}) == len(TAMPERINGS) >= 50


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_a_tampering_is_found(tampering: Tampering, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    tampering.check(scene, capsys)
