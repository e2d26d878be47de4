"""The download stage from registry to raw folder, over the loopback interface, mirrors and pip."""

import gzip
import hashlib
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from loopback_server import Site, serve

from transformer.data.download.download import download
from transformer.data.download.transfer import MIRROR_VARIABLE
from transformer.data.parts import Part, read_parts
from transformer.errors import DataError, DownloadError, ParamsError
from transformer.files import files_below
from transformer.params import DownloadParams, LanguageParams

WHEEL = "toystrings-1.0-py3-none-any.whl"


class Stage:
    """The folders of a checkout, and the stage run in them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.raw, self.manifest = root / "data/raw", root / "data/manifest.json"
        self.registry, self.cache = root / "data/corpora.yaml", root / "work/downloads"
        self.registry.parent.mkdir()

    def declare(self, **corpora: Any) -> None:
        self.registry.write_text(yaml.safe_dump(corpora, sort_keys=False), encoding="utf-8")

    def run(self, *corpora: str, pair: str = "en-de", retries: int = 0) -> list[Part]:
        params = DownloadParams(corpora=list(corpora), retries=retries, timeout_seconds=5.0)
        languages = LanguageParams(source=pair.split("-")[0], target=pair.split("-")[1])
        download(params, languages, self.registry, self.raw, self.manifest, self.cache, sleep=lambda seconds: None)
        return read_parts(self.raw)

    def files(self) -> list[str]:
        found = [path.relative_to(self.raw).as_posix() for path in files_below(self.raw)]
        return [name for name in found if name != "parts.json"]

    def records(self) -> list[dict[str, Any]]:
        return list(json.loads(self.manifest.read_text(encoding="utf-8"))["files"])


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.delenv(MIRROR_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.chdir(tmp_path)
    return Stage(tmp_path)


@pytest.fixture
def site() -> Iterator[Site]:
    with serve({}) as running:
        yield running


def described(content: bytes, **where: str) -> dict[str, Any]:
    return {**where, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def packed(members: dict[str, bytes], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def plain_corpus(site: Site, languages: list[str]) -> dict[str, Any]:
    """A corpus as Multi30k lays it out: one gz a language and split."""
    files = {}
    for split in ("train", "val"):
        for language in languages:
            content = gzip.compress(f"{split} {language}\n".encode(), mtime=0)
            site.files[f"/raw/{split}.{language}.gz"] = content
            files[f"{split}.{language}.gz"] = described(content, url=f"{site.url}/raw/{split}.{language}.gz")
    parts = [
        {"name": "toy", "split": "train", "format": "lines", "file": "train.{language}.gz"},
        {"name": "val", "split": "valid", "format": "lines", "file": "val.{language}.gz"},
    ]
    return {"licence": "CC0", "citation": "-", "languages": languages, "files": files, "parts": parts}


def test_plain_files_of_the_two_languages_only(stage: Stage, site: Site) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de", "fr"]))
    parts = stage.run("toy")
    assert stage.files() == ["toy/train.de.gz", "toy/train.en.gz", "toy/val.de.gz", "toy/val.en.gz"]
    assert parts[0] == Part(
        corpus="toy",
        name="toy",
        split="train",
        format="lines",
        source="toy/train.en.gz",
        target="toy/train.de.gz",
        source_language="en",
        target_language="de",
    )
    assert gzip.decompress((stage.raw / parts[1].target).read_bytes()) == b"val de\n"
    assert not any(".fr." in path for path, _ in site.requests)


def test_the_direction_may_be_reversed(stage: Stage, site: Site) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de", "fr"]))
    part = stage.run("toy", pair="fr-en")[0]
    assert (part.source, part.target) == ("toy/train.fr.gz", "toy/train.en.gz")


def test_a_deleted_raw_folder_costs_no_second_transfer_and_gives_equal_bytes(stage: Stage, site: Site) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de"]))
    stage.run("toy")
    first = {name: (stage.raw / name).read_bytes() for name in [*stage.files(), "parts.json"]}
    for path in files_below(stage.raw):
        path.unlink()
    asked = len(site.requests)
    stage.run("toy")
    assert len(site.requests) == asked
    assert {name: (stage.raw / name).read_bytes() for name in [*stage.files(), "parts.json"]} == first


def test_what_an_earlier_choice_left_in_the_raw_folder_goes(stage: Stage, site: Site) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de", "fr"]), other=plain_corpus(site, ["en", "de"]))
    stage.run("toy", pair="fr-en")
    stage.run("other")
    assert {name.split("/")[0] for name in stage.files()} == {"other"}


def test_the_manifest_tells_file_source_bytes_hash_and_licence(stage: Stage, site: Site) -> None:
    corpus = plain_corpus(site, ["en", "de"])
    corpus["files"]["train.de.gz"]["licence"] = "its own"
    stage.declare(toy=corpus)
    stage.run("toy")
    records = {record["file"]: record for record in stage.records()}
    assert len(records) == 4
    content = site.files["/raw/train.de.gz"]
    record = records["toy/train.de.gz"]
    assert record == {
        "file": "toy/train.de.gz",
        "source": f"{site.url}/raw/train.de.gz",
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "licence": "its own",
        "raw": ["toy/train.de.gz"],
    }
    assert records["toy/train.en.gz"]["licence"] == "CC0"


def test_unknown_names_are_answered_with_the_known_ones(stage: Stage, site: Site) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de"]), other=plain_corpus(site, ["en", "de"]))
    with pytest.raises(ParamsError, match=r"download\.corpora: .*yaml has no corpus 'tou'; it has toy, other"):
        stage.run("toy", "tou")
    with pytest.raises(ParamsError, match=r"languages\.target = 'fr': corpus toy has en, de"):
        stage.run("toy", pair="en-fr")
    assert site.requests == []


def test_a_full_disk_is_refused_before_the_transfer(
    stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.declare(toy=plain_corpus(site, ["en", "de"]))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(DownloadError, match=r"the download needs \d+ bytes and .* has 10 bytes free"):
        stage.run("toy")
    assert site.requests == []


def strings_wheel() -> bytes:
    """A small wheel that pip accepts, with catalogues in two languages besides English."""
    members = {"toystrings/__init__.py": "raise SystemExit('a wheel must not be run')\n"}
    for language in ("en", "de", "pt-BR"):
        members[f"toystrings/components/door/translations/{language}.json"] = json.dumps({"title": language})
    members["toystrings-1.0.dist-info/METADATA"] = (
        "Metadata-Version: 2.1\nName: toystrings\nVersion: 1.0\nRequires-Python: >=3.99.1\n"
    )
    members["toystrings-1.0.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    members["toystrings-1.0.dist-info/RECORD"] = "".join(f"{name},,\n" for name in members)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as wheel:
        for name, content in members.items():
            wheel.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def catalogue(content: bytes, **changed: str) -> dict[str, Any]:
    source = described(content, wheel="toystrings==1.0", python="3.99.1") | changed
    part = {"name": "strings", "format": "catalogue", "file": WHEEL, "member": "*/translations/{language}.json"}
    return {"licence": "Apache-2.0", "citation": "-", "files": {WHEEL: source}, "parts": [part]}


@pytest.fixture
def index(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only index."""
    folder = stage.root / "index"
    folder.mkdir()
    (folder / WHEEL).write_bytes(strings_wheel())
    for variable in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(variable)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_a_wheel_through_pip(stage: Stage, index: Path) -> None:
    stage.declare(strings=catalogue(strings_wheel()))
    (part,) = stage.run("strings", pair="de-en")
    assert part == Part(
        corpus="strings",
        name="strings",
        split=None,
        format="catalogue",
        source=f"strings/{WHEEL}",
        target=f"strings/{WHEEL}",
        source_language="de",
        target_language="en",
        source_field="*/translations/de.json",
        target_field="*/translations/en.json",
    )
    assert (stage.raw / part.source).read_bytes() == strings_wheel()
    assert stage.records()[0]["source"] == "package toystrings==1.0"
    (index / WHEEL).unlink()
    stage.run("strings")  # from the cache


def test_a_wheel_with_another_hash_is_refused(stage: Stage, index: Path) -> None:
    stage.declare(strings=catalogue(strings_wheel(), sha256="0" * 64))
    with pytest.raises(DataError) as caught:
        stage.run("strings")
    assert "0" * 64 in str(caught.value)
    assert hashlib.sha256(strings_wheel()).hexdigest() in str(caught.value)
    assert [path for path in stage.cache.iterdir() if path.suffix != ".lock"] == []


def test_a_wheel_that_the_index_does_not_have(stage: Stage, index: Path) -> None:
    stage.declare(strings=catalogue(strings_wheel()))
    (index / WHEEL).unlink()
    with pytest.raises(DownloadError, match=rf"toystrings==1\.0 could not .*{MIRROR_VARIABLE}") as caught:
        stage.run("strings")
    assert "\n" not in str(caught.value)


def test_the_languages_of_a_catalogue_are_told(stage: Stage, index: Path) -> None:
    stage.declare(strings=catalogue(strings_wheel()))
    with pytest.raises(ParamsError, match=r"languages\.target = 'cy': corpus strings has de, en, pt-BR"):
        stage.run("strings", pair="en-cy")


def test_a_mirror_url_serves_files_and_wheels(stage: Stage, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = plain_corpus(site, ["en", "de"])
    for name, source in corpus["files"].items():
        site.files[f"/inside/host.org/{name}"] = site.files.pop(f"/raw/{name}")
        source["url"] = f"https://host.org/{name}"
    site.files[f"/inside/pypi/{WHEEL}"] = strings_wheel()
    stage.declare(toy=corpus, strings=catalogue(strings_wheel()))
    monkeypatch.setenv(MIRROR_VARIABLE, f"{site.url}/inside/")
    assert [part.corpus for part in stage.run("toy", "strings")] == ["toy", "toy", "strings"]
    assert len(site.requests) == 5
    assert stage.records()[0]["source"] == "https://host.org/train.en.gz"


def test_a_mirror_folder_needs_no_network(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = stage.root / "mirror/pypi"
    folder.mkdir(parents=True)
    (folder / WHEEL).write_bytes(strings_wheel())
    stage.declare(strings=catalogue(strings_wheel()))
    monkeypatch.setenv(MIRROR_VARIABLE, str(folder.parent))
    stage.run("strings")
    assert stage.files() == [f"strings/{WHEEL}"]


def test_ones_own_lines_tsv_and_parquet(stage: Stage) -> None:
    own = stage.root / "own"
    own.mkdir()
    (own / "train.v1.src").write_text("a\n")
    (own / "train.v1.tgt.gz").write_bytes(gzip.compress(b"A\n"))
    (own / "valid.tsv").write_text("x\tb\tB\n")
    pq.write_table(pa.table({"english": ["c"], "german": ["C"]}), own / "test.parquet")
    stage.declare(
        mine={
            "licence": "ours",
            "local": {
                "train": {"en": "own/train.v1.src", "de": "own/train.v1.tgt.gz"},
                "valid": {"file": str(own / "valid.tsv"), "en": 1, "de": 2},
                "test": {"file": "own/test.parquet", "en": "english", "de": "german"},
            },
        }
    )
    train, valid, test = stage.run("mine", pair="de-en")
    assert (train.format, train.source, train.target) == ("lines", "mine/train.de.gz", "mine/train.en")
    assert (valid.format, valid.source, valid.source_field, valid.target_field) == ("tsv", "mine/valid.tsv", "2", "1")
    assert (test.format, test.target, test.target_field) == ("parquet", "mine/test.parquet", "english")
    assert [part.split for part in (train, valid, test)] == ["train", "valid", "test"]
    assert [part.name for part in (train, valid, test)] == ["mine-train", "mine-valid", "mine-test"]
    assert stage.files() == ["mine/test.parquet", "mine/train.de.gz", "mine/train.en", "mine/valid.tsv"]
    record = next(record for record in stage.records() if record["file"] == "mine/train.en")
    assert record["sha256"] == hashlib.sha256(b"a\n").hexdigest()
    assert (record["source"], record["licence"]) == ("own/train.v1.src", "ours")
    # a copy: what DVC does to the raw folder must not touch the user's own file
    assert (stage.raw / "mine/train.en").stat().st_ino != (own / "train.v1.src").stat().st_ino


def test_ones_own_files_without_official_splits(stage: Stage) -> None:
    (stage.root / "all.tsv.gz").write_bytes(gzip.compress(b"a\tA\n"))
    stage.declare(mine={"local": {"all": {"file": "all.tsv.gz", "en": 0, "de": 1}}})
    (part,) = stage.run("mine")
    assert (part.split, part.format, part.source) == (None, "tsv", "mine/all.tsv.gz")


def test_ones_own_files_that_are_missing_are_named(stage: Stage) -> None:
    stage.declare(mine={"local": {"train": {"en": "nowhere.src", "de": "nowhere.tgt"}}})
    with pytest.raises(DataError, match=r"corpora\.yaml: mine\.local\.train: nowhere\.src does not exist"):
        stage.run("mine")
    with pytest.raises(ParamsError, match=r"languages\.target = 'fr': corpus mine has de, en"):
        stage.run("mine", pair="en-fr")
