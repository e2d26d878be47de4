"""A real, reproduced project in the hands of somebody who changes it, and its way back."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import pytest
import yaml
from workspace import Workspace

from flows.lineage.cli import main
from flows.records.record import Record, digest_of

STORE = "mlflow.db"


class Scene:
    """The project that is tampered with."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.root = workspace.folder
        self.client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{self.root / STORE}")
        self.undo: list[Callable[[], object]] = []

    def flip(self, path: str | Path) -> None:
        """Change one byte in the middle of a file."""
        file = self.root / path
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        self.write(file, bytes(content))

    def write(self, path: str | Path, content: bytes) -> None:
        """Replace a file, read-only ones as in DVC's cache included."""
        file = self.root / path
        file.chmod(0o644)
        file.write_bytes(content)

    def replace(self, path: str, old: str, new: str) -> None:
        """Replace text in a file, once."""
        text = (self.root / path).read_text(encoding="utf-8")
        assert old in text
        self.write(path, text.replace(old, new, 1).encode())

    def swap(self, one: Path, other: Path) -> None:
        """Exchange two files' contents."""
        first, second = one.read_bytes(), other.read_bytes()
        assert first != second
        self.write(one, second)
        self.write(other, first)

    def lock(self, edit: Callable[[Any], object]) -> None:
        """Edit dvc.lock."""
        path = self.root / "dvc.lock"
        content = yaml.safe_load(path.read_text())
        edit(content["stages"])
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def record(self, stage: str, edit: Callable[[Any], object], forge: bool = False) -> None:
        """Edit a record; `forge` makes its digest fit again."""
        path = self.root / "reports" / "lineage" / f"{stage}.json"
        content = json.loads(path.read_text())
        edit(content)
        if forge:
            del content["digest"]
            content["digest"] = digest_of(content)
        path.write_text(json.dumps(content))

    def commit(self) -> None:
        """Commit all that was changed."""
        self.workspace.git("commit", "-qam", "tampered")

    def object(self, place: str, path: str, inner: str | None = None) -> Path:
        """Where the cache or the remote keeps an output, or a file of it."""
        stages = yaml.safe_load((self.root / "dvc.lock").read_text())["stages"].values()
        md5 = next(out["md5"] for stage in stages for out in stage["outs"] if out["path"] == path)
        folder = self.root / {"cache": ".dvc/cache", "remote": "remote"}[place] / "files" / "md5"
        if inner:
            listing = json.loads((folder / md5[:2] / md5[2:]).read_text())
            md5 = next(entry["md5"] for entry in listing if entry["relpath"] == inner)
        return folder / md5[:2] / md5[2:]

    def run(self, stage: str) -> str:
        """The MLflow run of a stage."""
        record = Record.model_validate_json((self.root / "reports" / "lineage" / f"{stage}.json").read_bytes())
        assert record.runs.mlflow
        return record.runs.mlflow

    def tag(self, stage: str, key: str, value: str) -> None:
        """Re-tag a run, until the test's end."""
        run = self.run(stage)
        before = self.client.get_run(run).data.tags.get(key)
        self.undo.append(
            lambda: self.client.delete_tag(run, key) if before is None else self.client.set_tag(run, key, before)
        )
        self.client.set_tag(run, key, value)

    def registered(self, path: str) -> Path:
        """A file of the registered model."""
        (version,) = self.client.search_model_versions("name = 'transformer-en-de'")
        return self.root / "mlartifacts" / "models" / version.source.removeprefix("models:/") / "artifacts" / path


def restore(pristine: Path, folder: Path) -> None:
    """Undo every change to files; the store, which this process holds open, stays."""
    wanted = {path.relative_to(pristine) for path in pristine.rglob("*")}
    for path in sorted(folder.rglob("*"), reverse=True):  # a folder after what is in it
        if path.relative_to(folder) not in wanted:
            path.rmdir() if path.is_dir() else path.unlink()
    for name in sorted(wanted - {Path(STORE)}):
        source, target = pristine / name, folder / name
        if source.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists() or _stamp(source) != _stamp(target):
            target.unlink(missing_ok=True)
            shutil.copy2(source, target)


def _stamp(path: Path) -> tuple[int, int]:
    return path.stat().st_size, path.stat().st_mtime_ns


Tamper = Callable[[Scene], None]


@dataclass(frozen=True)
class Tampering:
    """A change, and how it is to be reported: the status, and the lines' words."""

    name: str
    do: Tamper
    says: str
    status: int = 2

    def check(self, scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
        """Do it, and see it reported."""
        self.do(scene)
        status = main(["verify"])
        printed = capsys.readouterr().out
        assert any(self.says in line for line in printed.splitlines()), printed
        assert status == self.status, printed
