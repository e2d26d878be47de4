"""What somebody changes in MLflow alone, its runs, its registry and their files, has to be found."""

import shutil
import sqlite3
from typing import Any

import pytest
from tampered_project import STORE, Scene, Tamper, Tampering


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


def alias_by_hand(scene: Scene) -> None:
    (version,) = scene.client.search_model_versions("name = 'transformer-en-de'")
    scene.undo.append(lambda: scene.client.delete_registered_model_alias(version.name, "champion"))
    scene.client.set_registered_model_alias(version.name, "champion", version.version)


RUNS = [
    Tampering("registry: alias", alias_by_hand, "champion (registered transformer-en-de) missing: the history", 1),
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


@pytest.mark.parametrize("tampering", [*SHOWN, *RUNS], ids=lambda tampering: tampering.name)
def test_a_tampering_is_found(tampering: Tampering, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    tampering.check(scene, capsys)
