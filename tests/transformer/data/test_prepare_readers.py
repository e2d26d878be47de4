"""Readers: every format gives the pairs that were written, and every malformed input a line that names it."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from transformer.data.parts import Part
from transformer.data.prepare.readers.part import bytes_of, read_part
from transformer.errors import DataError


def part(**fields: Any) -> Part:
    defaults = {"corpus": "c", "name": "news", "split": "train", "source_language": "en", "target_language": "de"}
    return Part(**{**defaults, **fields})


def lines_part(source: str = "a.en", target: str = "a.de") -> Part:
    return part(format="lines", source=source, target=target)


def read(described: Part, raw: Path, batch_pairs: int = 3) -> list[tuple[str, str, str]]:
    batches = list(read_part(described, raw, batch_pairs, lambda count: None))
    assert all(0 < len(batch.source) <= batch_pairs for batch in batches)
    return [pair[:3] for batch in batches for pair in zip(*batch, strict=True)]


def error_of(described: Part, raw: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(described, raw)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(path: Path, content: bytes | str) -> None:
    data = content.encode() if isinstance(content, str) else content
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_lines_end_at_the_line_feed_only(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / f"a.en{suffix}", "\ufeffone\r\ntwo\u2028still two\n\nfour\x85\x0c4\rfour")
    write(tmp_path / f"a.de{suffix}", "eins\nzwei\n\nvier\n")
    pairs = read(lines_part(f"a.en{suffix}", f"a.de{suffix}"), tmp_path)
    assert pairs == [
        ("one", "eins", "news"),
        ("two\u2028still two", "zwei", "news"),
        ("", "", "news"),
        ("four\x85\x0c4\rfour", "vier", "news"),
    ]


@pytest.mark.parametrize(
    ("sources", "targets", "counts", "missing"),
    [(10, 9, (10, 9), "pair 10 has no target"), (4, 12, (4, 12), "pair 5 has no source")],
)
def test_misaligned_files(tmp_path: Path, sources: int, targets: int, counts: tuple[int, int], missing: str) -> None:
    write(tmp_path / "a.en", "x\n" * sources)
    write(tmp_path / "a.de", "y\n" * targets)
    message = error_of(lines_part(), tmp_path)
    assert f"a.en: it has {counts[0]} lines" in message
    assert f"a.de has {counts[1]}:" in message
    assert missing in message


def test_bad_utf8_names_file_and_line(tmp_path: Path) -> None:
    write(tmp_path / "a.en", "x\n" * 5)
    write(tmp_path / "a.de", b"y\ny\nstra\xdfe\ny\ny\n")
    message = error_of(lines_part(), tmp_path)
    assert "a.de, line 3" in message
    assert "UTF-8" in message


def test_truncated_gzip_names_file_and_line(tmp_path: Path) -> None:
    # Hexadecimal digits of squares hardly compress, so that half of the bytes hold about half of the lines.
    text = "".join(f"{number**9:x}\n" for number in range(1, 5001))
    write(tmp_path / "a.en", text)
    whole = gzip.compress(text.encode())
    (tmp_path / "a.de.gz").write_bytes(whole[: len(whole) // 2])
    message = error_of(lines_part("a.en", "a.de.gz"), tmp_path)
    assert "a.de.gz" in message
    assert "cut short after line " in message
    assert 1000 < int(message.split("after line ")[1].split(";")[0]) < 4000


@pytest.mark.parametrize("damage", ["flipped checksum", "flipped middle"])
def test_damaged_gzip(tmp_path: Path, damage: str) -> None:
    text = "".join(f"{number**9:x}\n" for number in range(1, 1001)).encode()
    data = bytearray(gzip.compress(text))
    if damage == "flipped checksum":
        data[-6] ^= 0xFF
    else:
        data[len(data) // 2] ^= 0xFF
    write(tmp_path / "a.en", text)
    (tmp_path / "a.de.gz").write_bytes(data)
    message = error_of(lines_part("a.en", "a.de.gz"), tmp_path)
    assert "a.de.gz: the compressed file is damaged" in message or "a.de.gz, line" in message


@pytest.mark.parametrize("name", ["a.de", "a.de.gz"])
def test_empty_and_missing_files(tmp_path: Path, name: str) -> None:
    write(tmp_path / "a.en", "x\n")
    assert f"{name}: cannot be read" in error_of(lines_part("a.en", name), tmp_path)
    write(tmp_path / name, "")
    assert f"{name}: it is empty" in error_of(lines_part("a.en", name), tmp_path)


SOURCE_SGM = """<srcset setid="news" srclang="any">
<doc docid="b" genre="news" origlang="de">
<hl>
<seg id="1">Tom &amp; Jerry's "R&D" < 5</seg>
</hl>
<p>
<seg id="2"> two
lines </seg><seg id="3">&lt;b&gt;</seg>
</p>
</DOC>
<DOC docid='a'>
<SEG id="1">last</SEG>
</doc>
</srcset>
"""
TARGET_SGM = (
    SOURCE_SGM.replace("last", "Ende").replace("srcset", "refset").replace("<doc docid", '<doc sysid="ref" docid')
)


def sgm_part() -> Part:
    return part(format="sgm", source="s.sgm", target="t.sgm", split="test")


def test_sgm(tmp_path: Path) -> None:
    write(tmp_path / "s.sgm", SOURCE_SGM)
    write(tmp_path / "t.sgm", TARGET_SGM)
    sources = ['Tom & Jerry\'s "R&D" < 5', "two lines", "<b>", "last"]
    assert [pair[0] for pair in read(sgm_part(), tmp_path)] == sources
    assert read(sgm_part(), tmp_path)[-1] == ("last", "Ende", "news")


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ('<seg id="1">Ende</seg>', "", "s.sgm: it has 4 segments and "),
        ('<seg id="2">', '<seg id="4">', "t.sgm, line 7: segment 4 of b is where"),
        ("docid='a'", "docid='c'", "segment 1 of c is where"),
        ("lines </seg>", "lines ", 'line 8: <seg id="3"> inside segment 2'),
        ("Ende</SEG>\n</doc>\n</refset>\n", "Ende", "line 12: segment 1 has no </seg>: the file may be cut short"),
        ("docid='a'", "", "has no docid"),
        ('<SEG id="1">', "<SEG>", "has no id"),
        ("<DOC docid='a'>", "", "segment 1 is outside any <doc>"),
    ],
)
def test_malformed_sgm(tmp_path: Path, old: str, new: str, expected: str) -> None:
    old = old.replace("seg", "SEG") if "Ende" in old else old
    assert old in TARGET_SGM
    write(tmp_path / "s.sgm", SOURCE_SGM)
    write(tmp_path / "t.sgm", TARGET_SGM.replace(old, new))
    assert expected in error_of(sgm_part(), tmp_path)


def test_sgm_without_segments(tmp_path: Path) -> None:
    for name in ("s.sgm", "t.sgm"):
        write(tmp_path / name, "just text\n")
    assert "s.sgm: it holds no <seg>" in error_of(sgm_part(), tmp_path)


def tsv_part(**fields: Any) -> Part:
    return part(
        **{
            "format": "tsv",
            "source": "a.tsv.gz",
            "target": "a.tsv.gz",
            "source_field": "2",
            "target_field": "0",
            **fields,
        }
    )


def test_tsv_takes_numbered_columns_without_quoting(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv.gz", 'eins\t0.5\tone "quoted\nzwei\t0.7\ttwo\n')
    assert read(tsv_part(), tmp_path) == [('one "quoted', "eins", "news"), ("two", "zwei", "news")]


def test_tsv_errors(tmp_path: Path) -> None:
    write(tmp_path / "a.tsv.gz", "eins\tx\tone\nzwei\ttwo\n")
    assert "a.tsv.gz, line 2: 2 columns between tabs where data/corpora.yaml speaks of 3" in error_of(
        tsv_part(), tmp_path
    )


def parquet_part(**fields: Any) -> Part:
    return part(
        **{
            "format": "parquet",
            "source": "a.parquet",
            "target": "a.parquet",
            "source_field": "en",
            "target_field": "de",
            **fields,
        }
    )


def test_parquet(tmp_path: Path) -> None:
    columns = {"de": ["eins", None, "drei"], "id": [1, 2, 3], "en": ["one", "two", "three"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "a.parquet")
    assert read(parquet_part(), tmp_path) == [("one", "eins", "news"), ("two", "", "news"), ("three", "drei", "news")]
    assert "a.parquet: it has no column 'fr'; its columns are de, id, en" in error_of(
        parquet_part(target_field="fr"), tmp_path
    )
    assert "column 'id' holds int64, not text" in error_of(parquet_part(target_field="id"), tmp_path)


def test_parquet_errors(tmp_path: Path) -> None:
    assert "a.parquet" in error_of(parquet_part(), tmp_path)
    write(tmp_path / "a.parquet", b"PAR1 not really PAR1")
    assert "a.parquet: not a readable Parquet file" in error_of(parquet_part(), tmp_path)
    pyarrow.parquet.write_table(
        pyarrow.table({"en": pyarrow.array([], "str"), "de": pyarrow.array([], "str")}), tmp_path / "a.parquet"
    )
    assert "a.parquet: it holds no pair for en-de" in error_of(parquet_part(), tmp_path)
    damaged = (tmp_path / "a.parquet").read_bytes().replace(b"en", b"e\xee")  # a column's name
    write(tmp_path / "a.parquet", damaged)
    assert "a.parquet: not a readable Parquet file ('utf-8' codec can't" in error_of(parquet_part(), tmp_path)


def test_parquet_is_not_kept_in_memory(tmp_path: Path) -> None:
    texts = [f"{number} {'x' * 100}" for number in range(20_000)]
    pyarrow.parquet.write_table(
        pyarrow.table({"en": texts, "de": texts}), tmp_path / "a.parquet", row_group_size=500,
        compression="none", use_dictionary=False,
    )  # fmt: skip
    before = pyarrow.total_allocated_bytes()
    reading = read_part(parquet_part(), tmp_path, 500, lambda count: None)
    held = [pyarrow.total_allocated_bytes() - before for _ in reading]
    assert len(held) == 40
    assert max(held) < (tmp_path / "a.parquet").stat().st_size / 2


def catalogue_part(**fields: Any) -> Part:
    names = {"source_field": "*/translations/en.json", "target_field": "*/translations/de.json"}
    return part(**{"format": "catalogue", "source": "a.whl", "target": "a.whl", "split": None, **names, **fields})


def write_catalogue(path: Path, members: dict[str, Any]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if isinstance(content, bytes | str) else json.dumps(content))


def test_catalogue_aligns_by_component_and_key(tmp_path: Path) -> None:
    members = {
        "x/lamp/translations/en.json": {
            "title": "Lamp",
            "entity": {"on": "On", "off": "Off"},
            "n": 3,
            "list": ["A", "B"],
        },
        "x/lamp/translations/de.json": {
            "entity": {"off": "Aus", "on": "An"},
            "title": "Lampe",
            "n": 3,
            "list": ["C"],
        },
        "x/door/translations/en.json": {"entity": {"on": "Open", "off": "Closed"}},
        "x/door/translations/de.json": {"entity": {"on": "Offen", "other": "Anders", "off": {"deeper": "Zu"}}},
        "x/only_english/translations/en.json": {"title": "Alone"},
        "x/only_german/translations/de.json": {"title": "Allein"},
        "x/lamp/translations/fr.json": {"title": "Lampe"},
        "x/code.py": "print()",
    }
    write_catalogue(tmp_path / "a.whl", members)
    assert read(catalogue_part(), tmp_path) == [
        ("Open", "Offen", "news/entity"),
        ("Lamp", "Lampe", "news/title"),
        ("On", "An", "news/entity"),
        ("Off", "Aus", "news/entity"),
        ("A", "C", "news/list"),
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": "b"', "not UTF-8 JSON"),
        (b'{"a": "\xff"}', "not UTF-8 JSON"),
        (b'{"a": "\\ud83d"}', "surrogates not allowed"),
    ],
)
def test_broken_catalogue_member(tmp_path: Path, content: bytes, reason: str) -> None:
    members = {"x/translations/en.json": {"a": "b"}, "x/translations/de.json": content}
    write_catalogue(tmp_path / "a.whl", members)
    message = error_of(catalogue_part(), tmp_path)
    assert "a.whl: member x/translations/de.json" in message
    assert reason in message


def test_broken_zip(tmp_path: Path) -> None:
    text = {f"key {number}": f"{number**9:x}" for number in range(200)}
    write_catalogue(tmp_path / "a.whl", {"x/translations/en.json": text, "x/translations/de.json": text})
    whole = (tmp_path / "a.whl").read_bytes()
    damaged = bytearray(whole)
    damaged[500] ^= 0xFF
    (tmp_path / "a.whl").write_bytes(damaged)
    assert "member x/translations/en.json" in error_of(catalogue_part(), tmp_path)
    (tmp_path / "a.whl").write_bytes(whole[:2000])
    assert "a.whl: a damaged zip file" in error_of(catalogue_part(), tmp_path)


def test_catalogue_without_the_language(tmp_path: Path) -> None:
    write_catalogue(tmp_path / "a.whl", {"x/translations/en.json": {"a": "b"}})
    assert "a.whl: no member matches */translations/de.json" in error_of(catalogue_part(), tmp_path)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_progress_stays_within_the_bytes_of_the_files(tmp_path: Path, suffix: str) -> None:
    for side in ("en", "de"):
        write(tmp_path / f"a.{side}{suffix}", "".join(f"{number**9:x}\n" for number in range(10000)))
    described, steps = lines_part(f"a.en{suffix}", f"a.de{suffix}"), []
    for _ in read_part(described, tmp_path, 1000, steps.append):
        pass
    assert min(steps) >= 0
    assert 0 < sum(steps) <= bytes_of(described, tmp_path)
