"""Extraction takes the named members and nothing else, whatever the archive holds."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from transformer.data.download.archive import extract
from transformer.errors import DataError, DownloadError
from transformer.files import files_below

MEMBERS = {"training/a.en": b"one\n" * 100_000, "training/a.de": b"eins\n", "other/b.cs": b"jedna\n"}


def pack(path: Path, mode: str, extra: list[tarfile.TarInfo] | None = None) -> Path:
    with tarfile.open(path, mode) as tar:
        for entry in extra or []:
            tar.addfile(entry, io.BytesIO(b"bad!") if entry.isreg() else None)
        for name, content in MEMBERS.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, link, 4 if kind == tarfile.REGTYPE else 0
    return made


def names_below(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder)]


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_only_the_named_members_are_extracted(tmp_path: Path, mode: str) -> None:
    archive = pack(tmp_path / "corpus.tgz", mode)
    extract(archive, ["training/a.de", "training/a.en"], tmp_path / "out")
    assert names_below(tmp_path / "out") == ["training/a.de", "training/a.en"]
    assert (tmp_path / "out/training/a.en").read_bytes() == MEMBERS["training/a.en"]


def test_members_of_a_zip(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as packed:
        for name, content in MEMBERS.items():
            packed.writestr(name, content)
    extract(tmp_path / "corpus.zip", ["training/a.de"], tmp_path / "out")
    assert names_below(tmp_path / "out") == ["training/a.de"]
    with pytest.raises(DataError, match=r"has no member training/a\.fr"):
        extract(tmp_path / "corpus.zip", ["training/a.fr"], tmp_path / "out")


def test_members_may_be_listed_with_a_leading_dot(tmp_path: Path) -> None:
    archive = pack(tmp_path / "corpus.tar", "w", [entry("./c.en")])
    extract(archive, ["c.en"], tmp_path / "out")
    assert (tmp_path / "out/c.en").read_bytes() == b"bad!"


def test_hostile_members_that_nobody_asked_for_are_passed_over(tmp_path: Path) -> None:
    hostile = [entry("../escaped"), entry("/tmp/escaped"), entry("training", tarfile.SYMTYPE, str(tmp_path))]
    archive = pack(tmp_path / "corpus.tgz", "w:gz", hostile)
    extract(archive, ["training/a.de"], tmp_path / "deep/out")
    assert names_below(tmp_path) == ["corpus.tgz", "deep/out/training/a.de"]
    assert not (tmp_path / "deep/out/training").is_symlink()


@pytest.mark.parametrize("name", ["../escaped", "/escaped", "training/../../escaped"])
def test_a_named_member_cannot_leave_the_folder(tmp_path: Path, name: str) -> None:
    archive = pack(tmp_path / "corpus.tgz", "w:gz", [entry(name)])
    with pytest.raises(DataError, match="would leave the folder"):
        extract(archive, [name], tmp_path / "out")
    assert names_below(tmp_path) == ["corpus.tgz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    archive = pack(tmp_path / "corpus.tgz", "w:gz", [entry("c.en", kind, "/etc/passwd")])
    with pytest.raises(DataError, match=r"c\.en is a link or a device"):
        extract(archive, ["c.en"], tmp_path / "out")
    assert not os.path.lexists(tmp_path / "out/c.en")


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    archive = pack(tmp_path / "corpus.tgz", "w:gz")
    with pytest.raises(DataError, match=r"corpus\.tgz has no member training/a\.fr"):
        extract(archive, ["training/a.de", "training/a.fr"], tmp_path / "out")


def test_a_truncated_archive_leaves_no_half_member(tmp_path: Path) -> None:
    archive = pack(tmp_path / "corpus.tgz", "w:gz")
    archive.write_bytes(archive.read_bytes()[:400])
    with pytest.raises(DataError, match=r"corpus\.tgz is broken"):
        extract(archive, ["training/a.en"], tmp_path / "out")
    assert names_below(tmp_path) == ["corpus.tgz"]


def test_what_is_no_archive_is_called_broken(tmp_path: Path) -> None:
    (tmp_path / "corpus.tgz").write_bytes(b"<html>")
    with pytest.raises(DataError, match=r"corpus\.tgz is broken"):
        extract(tmp_path / "corpus.tgz", ["a"], tmp_path / "out")


def test_a_full_disk_is_refused_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = pack(tmp_path / "corpus.tgz", "w:gz")
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Usage)
    with pytest.raises(DownloadError, match=r"a\.en needs 400\.0 kB and .* has 1\.0 kB free"):
        extract(archive, ["training/a.en"], tmp_path / "out")


class _Usage:
    free = 1000
