"""The registry's WMT 2014 entries, fetched over HTTP from a replica with the real addresses, archives and members."""

import gzip
import hashlib
import io
import json
import random
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from loopback_server import Site, serve

from transformer.chunks import LocalExecutor
from transformer.data.download.download import download
from transformer.data.download.transfer import MIRROR_VARIABLE
from transformer.data.prepare.prepare import prepare
from transformer.errors import UserError
from transformer.params import DownloadParams, LanguageParams, load_params

REGISTRY = Path(__file__).parents[3] / "data" / "corpora.yaml"
LINES = {"training": 400, "held_out": 12}
# Every address of the two entries, what a server holds there, and members beside those that are wanted.
STATMT, DATA_STATMT = "/www.statmt.org", "/data.statmt.org"
ARCHIVES = {
    f"{STATMT}/wmt13/training-parallel-europarl-v7.tgz": [
        f"training/europarl-v7.{pair}-en.{side}" for pair in ("cs", "de", "es", "fr") for side in (pair, "en")
    ],
    f"{STATMT}/wmt13/training-parallel-commoncrawl.tgz": [
        f"commoncrawl.{pair}-en.{kind}" for pair in ("de", "fr", "ru") for kind in (pair, "en", "annotation")
    ],
    f"{STATMT}/wmt14/training-parallel-nc-v9.tgz": [
        f"training/news-commentary-v9.{pair}-en.{side}" for pair in ("de", "fr") for side in (pair, "en")
    ],
    f"{STATMT}/wmt13/training-parallel-un.tgz": [
        f"un/undoc.2000.{pair}-en.{side}" for pair in ("es", "fr") for side in (pair, "en")
    ],
    f"{STATMT}/wmt10/training-giga-fren.tar": [f"giga-fren.release2.fixed.{side}.gz" for side in ("en", "fr")],
    f"{DATA_STATMT}/wmt19/translation-task/dev.tgz": [
        *(f"dev/newstest2013.{side}" for side in ("de", "en", "fr")), "dev/newstest2013-src.en.sgm",
    ],
    f"{STATMT}/wmt14/test-full.tgz": [
        f"test-full/newstest2014-{pair}-{kind}.{side}.sgm"
        for pair in ("deen", "fren") for kind in ("src", "ref") for side in (pair[:2], "en")
    ],
    f"{STATMT}/wmt14/test-filtered.tgz": [
        f"test/newstest2014-deen-{kind}.{side}.sgm" for kind in ("src", "ref") for side in ("de", "en")
    ],
}  # fmt: skip


def content_of(member: str) -> bytes:
    """Lines that belong to the member's name, its language left out, so that both sides are aligned."""
    name = member.removesuffix(".gz").removesuffix(".sgm")
    name, _, language = name.rpartition(".")
    held_out = "newstest" in name
    random_ = random.Random(name.removesuffix("-src").removesuffix("-ref"))
    sentences = []
    for _ in range(LINES["held_out" if held_out else "training"]):
        words = ["".join(random_.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(8)]
        sentences.append(" ".join(f"{word}{language}" for word in words))
    if member.endswith(".sgm"):
        sentences = [f'<seg id="{number}">{text}</seg>' for number, text in enumerate(sentences, 1)]
        sentences = ['<srcset setid="newstest2014">', '<doc docid="d">', *sentences, "</doc>", "</srcset>"]
    text = "".join(f"{line}\n" for line in sentences).encode()
    return gzip.compress(text, mtime=0) if member.endswith(".gz") else text


def archive(members: list[str], mode: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member in members:
            content = content_of(member)
            entry = tarfile.TarInfo(member)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def replica() -> dict[str, bytes]:
    return {path: archive(members, "w:gz" if path.endswith("tgz") else "w") for path, members in ARCHIVES.items()}


@pytest.fixture
def site(replica: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with serve(dict(replica)) as running:
        monkeypatch.setenv(MIRROR_VARIABLE, running.url)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        yield running


def registry_of(replica: dict[str, bytes], folder: Path) -> Path:
    """The committed registry with the sizes and hashes of the replica's files, and nothing else changed."""
    registry = yaml.safe_load(REGISTRY.read_text(encoding="utf-8"))
    for name in ("wmt14-en-de", "wmt14-en-fr"):
        for file in registry[name]["files"].values():
            content = replica["/" + file["url"].split("://")[1]]
            if "bytes" in file:
                file["bytes"] = len(content)
            kind = "sha256" if "sha256" in file else "md5"
            file[kind] = hashlib.new(kind, content).hexdigest()
    path = folder / "corpora.yaml"
    path.write_text(yaml.safe_dump(registry, sort_keys=False), encoding="utf-8")
    return path


def fetch(folder: Path, registry: Path, corpus: str, source: str, target: str, retries: int = 3) -> Path:
    params = DownloadParams(corpora=[corpus], retries=retries, timeout_seconds=5.0)
    languages = LanguageParams(source=source, target=target)
    raw = folder / "raw"
    download(params, languages, registry, raw, folder / "manifest.json", folder / "cache", sleep=lambda seconds: None)
    return raw


@pytest.mark.parametrize(
    ("corpus", "target", "training", "tests"),
    [
        ("wmt14-en-de", "de", ["europarl-v7", "commoncrawl", "news-commentary-v9"], 2),
        ("wmt14-en-fr", "fr", ["europarl-v7", "commoncrawl", "news-commentary-v9", "un", "giga-fren"], 1),
    ],
)
def test_the_entries_from_download_to_corpus(
    tmp_path: Path, replica: dict[str, bytes], site: Site, corpus: str, target: str, training: list[str], tests: int
) -> None:
    site.statuses = [503]
    site.cut_after = [1000, 7, 2000]  # the transfer goes on with ranges
    raw = fetch(tmp_path, registry_of(replica, tmp_path), corpus, "en", target)
    assert {"bytes=1000-", "bytes=1007-", "bytes=3007-"} <= {asked for _, asked in site.requests}
    assert {path for path, _ in site.requests} <= replica.keys()
    params = load_params(REGISTRY.parents[1] / "presets" / "wmt14-en-de-base.yaml").preparation
    params = params.model_copy(update={"batch_pairs": 300})
    prepare(params, raw, tmp_path / "corpus", tmp_path / "report.json", tmp_path / "work", LocalExecutor(1))
    splits = {split: pq.read_table(tmp_path / "corpus" / f"{split}.parquet") for split in ("train", "valid", "test")}
    assert splits["train"].num_rows == len(training) * LINES["training"]
    assert splits["train"]["origin"].unique().to_pylist() == training
    assert splits["valid"].num_rows == LINES["held_out"]
    assert splits["test"].num_rows == tests * LINES["held_out"]
    for split in splits.values():
        for row in split.to_pylist():
            assert re.sub(f"{target}\\b", "en", row["target"]) == row["source"]


@pytest.mark.parametrize(("source", "target"), [("en", "de"), ("de", "en")])
def test_of_the_test_sets_the_asked_direction_is_taken(
    tmp_path: Path, replica: dict[str, bytes], site: Site, source: str, target: str
) -> None:
    raw = fetch(tmp_path, registry_of(replica, tmp_path), "wmt14-en-de", source, target)
    records = {record["file"]: record for record in json.loads((tmp_path / "manifest.json").read_text())["files"]}
    for name, folder in {"test-full": "test-full", "test-filtered": "test"}.items():
        stem = f"{folder}/newstest2014-deen"
        taken = [f"{stem}-src.{source}.sgm", f"{stem}-ref.{target}.sgm"]
        found = {f"{folder}/{path.name}": path.read_bytes() for path in (raw / "wmt14-en-de" / folder).iterdir()}
        assert found == {member: content_of(member) for member in taken}
        # The registry knows only the md5 of these two; the manifest tells what came.
        content, record = replica[f"{STATMT}/wmt14/{name}.tgz"], records[f"wmt14-en-de/{name}.tgz"]
        assert (record["bytes"], record["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert record["raw"] == [f"wmt14-en-de/{member}" for member in taken]


@pytest.mark.parametrize("path", [f"{STATMT}/wmt14/training-parallel-nc-v9.tgz", f"{STATMT}/wmt14/test-full.tgz"])
def test_other_bytes_than_the_registry_knows_are_refused(
    tmp_path: Path, replica: dict[str, bytes], site: Site, path: str
) -> None:
    registry = registry_of(replica, tmp_path)
    site.files[path] = replica[path][:-1] + bytes([replica[path][-1] ^ 1])
    with pytest.raises(UserError, match=path.rpartition("/")[2]) as caught:
        fetch(tmp_path, registry, "wmt14-en-de", "en", "de", retries=0)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "raw" / "parts.json").exists()
