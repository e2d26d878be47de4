"""Every format in a published corpus, fetched from an address with a query, alone or in an archive of any kind."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
import zstandard
from loopback_server import serve

from transformer.data.download.download import download
from transformer.data.parts import read_parts
from transformer.data.prepare.readers.part import read_part
from transformer.errors import DataError
from transformer.params import DownloadParams, LanguageParams

PAIRS = [("A red house", "Ein rotes Haus"), ("The sea", "Das Meer")]
EN, DE = ("".join(f"{pair[side]}\n" for pair in PAIRS).encode() for side in (0, 1))
TU = "".join(
    f'<tu><tuv xml:lang="en"><seg>{en}</seg></tuv><tuv xml:lang="de-DE"><seg>{de}</seg></tuv></tu>'
    for en, de in PAIRS
)
UNIT = '<unit id="1"><segment><source>{}</source><target>{}</target></segment></unit>'
UNITS = "".join(UNIT.format(*pair) for pair in PAIRS)
SEGMENTS = ["".join(f'<seg id="{n}">{pair[side]}</seg>' for n, pair in enumerate(PAIRS)) for side in (0, 1)]

DATASET = '<dataset><doc><src lang="en">{}</src><ref lang="de">{}</ref></doc></dataset>'


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"translation": [{"en": en, "de": de} for en, de in PAIRS]}), buffer)
    return buffer.getvalue()


FORMATS: dict[str, tuple[bytes, dict[str, Any]]] = {
    "tsv": ("".join(f"{n}\t{de}\t{en}\n" for n, (en, de) in enumerate(PAIRS)).encode(), {"en": 2, "de": 1}),
    "jsonl": ("".join(json.dumps({"e": en, "d": de}) + "\n" for en, de in PAIRS).encode(), {"en": "e", "de": "d"}),
    "parquet": (parquet(), {"en": "translation.en", "de": "translation.de"}),
    "tmx": (f"<tmx><body>{TU}</body></tmx>".encode(), {"de": "de-DE"}),
    "xliff": (f'<xliff srcLang="en" trgLang="de"><file>{UNITS}</file></xliff>'.encode(), {}),
    "po": ("".join(f'msgid "{en}"\nmsgstr "{de}"\n\n' for en, de in PAIRS).encode(), {"en": "msgid", "de": "msgstr"}),
    "wmt-xml": (
        DATASET.format(*SEGMENTS).encode(),
        {},
    ),
}  # fmt: skip


def fetched(folder: Path, files: dict[str, bytes], parts: list[dict[str, Any]], pair: str = "en-de") -> Any:
    """The pairs of a corpus whose files are at `/get.php?f=<name>&raw=1`."""
    with serve({f"/get.php?f={name}&raw=1": content for name, content in files.items()}) as site:
        entry = {
            "licence": "CC0",
            "citation": "-",
            "languages": ["en", "de"],
            "files": {
                name: {"url": f"{site.url}/get.php?f={name}&raw=1", "sha256": hashlib.sha256(content).hexdigest()}
                for name, content in files.items()
            },
            "parts": parts,
        }
        registry = folder / "corpora.yaml"
        registry.write_text(yaml.safe_dump({"web": entry}))
        params = DownloadParams(corpora=["web"], retries=0, timeout_seconds=5.0)
        languages = LanguageParams(source=pair.split("-")[0], target=pair.split("-")[1])
        download(params, languages, registry, folder / "raw", folder / "manifest.json", folder / "cache")
    batches = [
        batch for part in read_parts(folder / "raw") for batch in read_part(part, folder / "raw", 9, lambda _: None)
    ]
    return [(source, target) for batch in batches for source, target in zip(batch.source, batch.target, strict=True)]


@pytest.mark.parametrize("pair", ["en-de", "de-en"])
@pytest.mark.parametrize("name", FORMATS)
def test_format(name: str, pair: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    content, columns = FORMATS[name]
    part = {"name": "news", "split": "train", "format": name, "file": "news.bin", "columns": columns}
    expected = PAIRS if pair == "en-de" else [(de, en) for en, de in PAIRS]
    assert fetched(tmp_path, {"news.bin": content}, [part], pair) == expected


def tarred(compress: Callable[[bytes], bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in (("d/a.en", EN), ("d/a.de", DE)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return compress(buffer.getvalue())


def zipped(_: Any = None) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("d/a.en", EN)
        archive.writestr("d/a.de", DE)
    return buffer.getvalue()


ARCHIVES = {
    "tar": tarred(bytes),
    "gzip": tarred(gzip.compress),
    "bzip2": tarred(bz2.compress),
    "xz": tarred(lzma.compress),
    "zstd": tarred(zstandard.compress),
    "zip": zipped(),
}
LINES = {"name": "news", "split": "train", "format": "lines", "archive": "download", "file": "d/a.{language}"}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archive_by_content(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert fetched(tmp_path, {"download": ARCHIVES[name]}, [LINES]) == PAIRS


@pytest.mark.parametrize("name", ["gzip", "xz", "zstd", "zip"])
def test_archive_that_is_cut(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(DataError, match=r"download is broken \(.*\): delete it and run the download again"):
        fetched(tmp_path, {"download": ARCHIVES[name][:60]}, [LINES])
