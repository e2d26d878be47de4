"""Tampered projects: each test plants one change in a real, reproduced and published project, and it has to be found.

The project is put back between the tests at the same path; MLflow's store stays and tests undo what they did to it.
"""

import hashlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from tampered_project import STORE, Scene, restore
from workspace import STAGES, Workspace

from flows.lineage.cli import main

Tamper = Callable[[Scene], None]


@pytest.fixture(scope="module")
def published(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished project whose data are in a remote, too."""
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("lineage") / "checkout")
    (workspace.folder / ".git" / "info" / "exclude").write_text("/remote/\n")
    workspace.dvc("remote", "add", "--default", "store", "remote")
    workspace.git("commit", "-qam", "a remote")
    workspace.dvc("push")
    shutil.copytree(workspace.folder, workspace.folder.parent / "pristine", symlinks=True)
    return workspace


@pytest.fixture
def scene(published: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """The untouched project, current folder of this process."""
    published.enter(monkeypatch)
    scene = Scene(published)
    yield scene
    for action in scene.undo:
        action()
    restore(published.folder.parent / "pristine", published.folder)


@dataclass(frozen=True)
class Tampering:
    """A change, and how it is to be reported: the status, and the lines' words."""

    name: str
    do: Tamper
    says: str
    status: int = 2


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


def end_as_failed(scene: Scene) -> None:
    run = scene.run("train")
    ended = scene.client.get_run(run).info.end_time
    scene.undo.append(lambda: scene.client.set_terminated(run, "FINISHED", ended))
    scene.client.set_terminated(run, "FAILED", ended)


def delete_run(scene: Scene) -> None:
    run = scene.run("tokenize")
    scene.undo.append(lambda: scene.client.restore_run(run))
    scene.client.delete_run(run)


def version_tag(scene: Scene) -> None:
    (version,) = scene.client.search_model_versions("name = 'transformer-en-de'")
    tag = (version.name, version.version, "sha256")
    scene.undo.append(lambda: scene.client.set_model_version_tag(*tag, version.tags["sha256"]))
    scene.client.set_model_version_tag(*tag, "0" * 64)


def forged_version(scene: Scene) -> None:
    """A version of another content and run that claims to be this model."""
    (true,) = scene.client.search_model_versions("name = 'transformer-en-de'")
    forged = scene.client.create_model_version(
        true.name, str(scene.root / "data" / "tokens"), scene.run("tokenize"), tags={"sha256": true.tags["sha256"]}
    )
    scene.undo.append(lambda: scene.client.delete_model_version(true.name, forged.version))


def metric(stage: str, key: str, value: float, step: int = 0) -> Tamper:
    def do(scene: Scene) -> None:
        run = scene.run(stage)
        with sqlite3.connect(scene.root / STORE) as store:
            tables = ("metrics", "latest_metrics")
            kept = {
                table: store.execute(f"select * from {table} where run_uuid = ?", [run]).fetchall()
                for table in tables
            }
        scene.undo.append(lambda: put_back(scene, run, kept))
        scene.client.log_metric(run, key, value, step=step)

    return do


def put_back(scene: Scene, run: str, kept: dict[str, list[Any]]) -> None:
    with sqlite3.connect(scene.root / STORE) as store:
        for table, rows in kept.items():
            store.execute(f"delete from {table} where run_uuid = ?", [run])
            store.executemany(f"insert into {table} values ({', '.join('?' * len(rows[0]))})", rows)


def another_point(scene: Scene) -> None:
    """Of a curve, one point is rewritten in the database."""
    run = scene.run("train")
    change = "update metrics set value = value + ? where run_uuid = ? and key = 'valid/bleu'"
    scene.undo.append(lambda: execute(scene, change, -1, run))
    execute(scene, change, 1, run)


def another_time(column: str, milliseconds: int) -> Tamper:
    def do(scene: Scene) -> None:
        change = f"update runs set {column} = {column} + ? where run_uuid = ?"
        run = scene.run("evaluate")
        scene.undo.append(lambda: execute(scene, change, -milliseconds, run))
        execute(scene, change, milliseconds, run)

    return do


def execute(scene: Scene, statement: str, *values: Any) -> None:
    with sqlite3.connect(scene.root / STORE) as store:
        assert store.execute(statement, values).rowcount > 0


def add_to_version(name: str, content: str) -> Tamper:
    """A file of a registered version, or a line more of one."""

    def do(scene: Scene) -> None:
        path = scene.registered(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            stream.write(content)

    return do


def edit_version(name: str, old: str, new: str) -> Tamper:
    def do(scene: Scene) -> None:
        path = scene.registered(name)
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return do


def file_of_run(stage: str, path: str) -> Tamper:
    return lambda scene: scene.flip(scene.root / "mlartifacts" / scene.run(stage) / "artifacts" / path)


SHOWN = [
    Tampering("metric: a better score", metric("evaluate", "test.bleu", 99.0, 1), "metrics (MLflow run"),
    Tampering("metric: an invented one", metric("evaluate", "test.comet", 0.9), "metrics (MLflow run"),
    Tampering("metric: of the corpus", metric("prepare", "train.kept", 1e6, 1), "metrics (MLflow run"),
    Tampering("curve: one point", another_point, "reports/curves/validation.csv (MLflow run"),
    Tampering("times: started", another_time("start_time", -3_600_000), "evaluate: times (MLflow run"),
    Tampering("times: ended", another_time("end_time", -60_000), "evaluate: times (MLflow run"),
    Tampering("machine: torch", lambda s: s.tag("train", "host.torch", "1.0"), "train: machine (MLflow run"),
    Tampering("machine: GPUs", lambda s: s.tag("train", "host.gpus", "eight of them"), "train: machine (MLflow run"),
    Tampering("machine: clean", lambda s: s.tag("train", "git.dirty", "perhaps"), "train: machine (MLflow run"),
    Tampering("file: metrics", file_of_run("evaluate", "reports/metrics.json"), "its files) BROKEN: reports/metr"),
    Tampering("file: a picture", file_of_run("evaluate", "reports/plots/loss.png"), "its files) BROKEN: loss.png: "),
    Tampering("file: a curve", file_of_run("train", "reports/curves/training.csv"), "its files) BROKEN: training.c"),
    Tampering("version: loader", add_to_version("translator_model.py", "print()"), "translator_model.py (reg"),
    Tampering("version: one more file", add_to_version("run.py", "print()"), "run.py (registered"),
    Tampering(
        "version: one more module", add_to_version("code/sitecustomize.py", "1"), "code/sitecustomize.py (regist"
    ),
    Tampering(
        "version: description",
        edit_version("MLmodel", "code: code", "code: artifacts"),
        "MLmodel (registered transformer-en-de/1) BROKEN: code: ",
    ),
    Tampering(
        "version: its run",
        edit_version("MLmodel", "run_id: ", "run_id: 0"),
        "MLmodel (registered transformer-en-de/1) BROKEN: run_id: ",
    ),
    Tampering(
        "version: a requirement", add_to_version("requirements.txt", "\nevil==1"), "requirements.txt (registered"
    ),
    Tampering(
        "version: a pin", edit_version("requirements.txt", "torch==", "torch==1"), "requirements.txt (registered"
    ),
    Tampering(
        "version: an environment", edit_version("conda.yaml", "- torch==", "- torch==9"), "conda.yaml (registered"
    ),
    Tampering(
        "version: another environment",
        edit_version("python_env.yaml", "-r requirements.txt", "-r more.txt"),
        "python_env.yaml (registered",
    ),
    Tampering(
        "version: its hash", edit_version("artifacts/model.sha256", "", "0"), "artifacts/model.sha256 (registered"
    ),
]

RUNS = [
    Tampering(
        "tag: output", lambda s: s.tag("average", "output.models/averaged", "0" * 64), "average: tags (MLflow run"
    ),
    Tampering("tag: input", lambda s: s.tag("train", "input.data/tokens", "0" * 64), "train: tags (MLflow run"),
    Tampering("tag: commit", lambda s: s.tag("train", "git.commit", "0" * 40), "train: tags (MLflow run"),
    Tampering("tag: record", lambda s: s.tag("prepare", "record", "0" * 64), "prepare: tags (MLflow run"),
    Tampering("tag: spool", lambda s: s.tag("evaluate", "spool", "another"), "evaluate: tags (MLflow run"),
    Tampering(
        "tag: one more output", lambda s: s.tag("train", "output.models/x", "0" * 64), "train: tags (MLflow run"
    ),
    Tampering("run: failed", end_as_failed, "BROKEN: expected FINISHED found FAILED"),
    Tampering("run: deleted", delete_run, "BROKEN: expected FINISHED found deleted"),
    Tampering("registry: tag", version_tag, "registered transformer-en-de/1, its tag) BROKEN: sha256: "),
    Tampering("registry: another run's version", forged_version, "run (registered transformer-en-de/"),
    Tampering(
        "registry: weights",
        lambda s: s.flip(s.registered("artifacts/model/model.safetensors")),
        "models/averaged (registered transformer-en-de/1) BROKEN: model.safetensors: ",
    ),
    Tampering(
        "registry: code",
        lambda s: s.flip(s.registered("code/transformer/decoding/search.py")),
        "transformer (registered transformer-en-de/1) BROKEN: decoding/search.py: ",
    ),
    Tampering(
        "registry: lost model",
        lambda s: shutil.rmtree(s.registered("artifacts/model")),
        "models/averaged (registered transformer-en-de/1) missing: ",
        1,
    ),
    Tampering(
        "artifact: a record",
        lambda s: s.flip(s.root / "mlartifacts" / s.run("train") / "artifacts/reports/lineage/train.json"),
        "train: reports/lineage/train.json (MLflow run",
    ),
]
TAMPERINGS = [*BYTES, *FILES, *PAST, *PLACES, *RUNS, *SHOWN]


def test_an_untouched_project_is_ok(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    status, counts = main(["verify"]), capsys.readouterr().out.split(", ")[1:]
    assert (status, counts) == (0, [f"{len(STAGES)} unsigned", "0 missing", "0 BROKEN\n"])


def test_there_are_enough_and_all_differ() -> None:
    assert len({tampering.name for tampering in TAMPERINGS}) == len(TAMPERINGS) >= 50


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda tampering: tampering.name)
def test_a_tampering_is_found(tampering: Tampering, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    tampering.do(scene)
    status = main(["verify"])
    printed = capsys.readouterr().out
    assert any(tampering.says in line for line in printed.splitlines()), printed
    assert status == tampering.status, printed
