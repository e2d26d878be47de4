"""The examples of docs/corpora.md do what the page says."""

import re
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from transformer.chunks import LocalExecutor
from transformer.data.download.download import download
from transformer.data.download.transfer import MIRROR_VARIABLE
from transformer.data.parts import read_parts, write_parts
from transformer.data.prepare.prepare import prepare
from transformer.params import DownloadParams, LanguageParams, load_params

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/corpora.md").read_text(encoding="utf-8")
_BLOCK = re.compile(r"^```(\w+)(?: ([^\n]+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language, the file that it names, its text."""

    language: str
    file: str
    text: str


def examples() -> list[list[Block]]:
    """The blocks up to each list of pairs."""
    found, blocks = [], list[Block]()
    for match in _BLOCK.finditer(PAGE.partition("## Examples")[2]):
        blocks.append(Block(match[1], match[2] or "", match[3]))
        if blocks[-1].file == "pairs":
            found.append(blocks)
            blocks = []
    return found


@pytest.mark.parametrize(
    "blocks", examples(), ids=lambda blocks: blocks[0].file.rpartition("/")[2] or blocks[0].language
)
def test_example(blocks: list[Block], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(MIRROR_VARIABLE, str(tmp_path / "mirror"))
    Path("my").mkdir()
    expected = [tuple(line.split(" | ")) for line in blocks.pop().text.splitlines()]
    for block in blocks:
        if block.language == "python":
            exec(block.text, {})
            continue
        path = Path(block.file.replace("published: https://", "mirror/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text, encoding="utf-8")
    languages = LanguageParams(source="en", target="de")
    registry, raw = Path("data/corpora.yaml"), Path("data/raw")
    params = DownloadParams(corpora=["mine"], retries=0, timeout_seconds=1.0)
    download(params, languages, registry, raw, Path("data/manifest.json"), Path("work"))
    parts = read_parts(raw)
    for split in ("valid", "test"):  # which the examples leave out
        for side in ("en", "de"):
            (raw / f"{split}.{side}").write_text(f"{split} in {side}\n")
        files = {"source": f"{split}.en", "target": f"{split}.de"}
        same = {"format": "lines", "header": None, "width": None, "blank_lines": None, "source_field": "", **files}
        parts.append(parts[0].model_copy(update={"name": split, "split": split, "target_field": "", **same}))
    write_parts(raw, parts)
    preparation = load_params(ROOT / "params.yaml").preparation
    prepare(preparation, raw, Path("data/corpus"), Path("corpus.json"), Path("work"), LocalExecutor(1))
    rows = pq.read_table("data/corpus/train.parquet").to_pylist()
    assert [(row["source"], row["target"]) for row in rows] == expected


def test_every_format_has_an_example() -> None:
    assert len(examples()) == 11
