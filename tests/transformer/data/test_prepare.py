"""The prepare stage end to end: from raw parts to split files and the report."""

import gzip
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from raw_parts import PARAMS, Pairs, part, random_pairs, with_filters, write_lines

from transformer.chunks import LocalExecutor
from transformer.data.parts import Part, write_parts
from transformer.data.prepare import splits as split_files
from transformer.data.prepare.prepare import prepare
from transformer.errors import DataError
from transformer.files import sha256_of
from transformer.params import PreparationParams

Rows = list[tuple[str, str, str]]
SPLITS = ("train", "valid", "test")


def run(folder: Path, raw: Path, params: PreparationParams = PARAMS) -> tuple[dict[str, Rows], dict[str, Any]]:
    prepare(params, raw, folder / "corpus", folder / "reports" / "corpus.json", folder / "work", LocalExecutor(1))
    tables = {split: pyarrow.parquet.read_table(folder / "corpus" / f"{split}.parquet") for split in SPLITS}
    assert all(table.schema == split_files.SCHEMA for table in tables.values())
    rows = {split: list(zip(*table.to_pydict().values(), strict=True)) for split, table in tables.items()}
    return rows, json.loads((folder / "reports" / "corpus.json").read_text())


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A raw folder with official splits and, in the training part, one pair for each reason of removal."""
    raw = tmp_path / "raw"
    test = [("Our dog sleeps &amp; snores.", "Unser Hund schläft &amp; schnarcht."), ("Same", "Same"), ("", " leer ")]
    test += [("Our dog sleeps &amp; snores.", "Noch\u00a0einmal  dieselbe\xad Zeile"), ("1", "zwei und drei " * 9)]
    valid = [("A completely different validation sentence 5", "Ein ganz anderer Satz 5")]
    train = [
        ("A  red\u200b house", "Ein rotes Haus"),
        ("a red House", "ein rotes haus"),
        ("A red house", "Das rote Haus"),
        ("&nbsp;", "leer"),
        ("Home", "Home"),
        ("word " * 21, "Wort " * 21),
        ("Yes", "Das ist eine viel zu lange Antwort"),
        ("Hello {name}", "Hallo {wer}"),
        ("Chapter 3 begins", "Kapitel 4 beginnt"),
        ("Open the door", "Открой дверь"),
        ("our DOG sleeps & snores.", "Der Hund schläft und schnarcht."),
        ("A completely different validation sentence 77", "Noch ein ganz anderer Satz 77"),
        ("The hound rests and grunts.", "unser Hund schläft & schnarcht."),
        ("Something else once more 99", "Ein ganz anderer Satz 99"),
        ("A green tree", "Ein grüner Baum"),
    ]
    for name, pairs in (("books", train), ("dev", valid), ("exam", test)):
        write_lines(raw, name, pairs)
    write_parts(raw, [part("books", "train"), part("dev", "valid"), part("exam", "test")])
    return raw


def test_official_splits(tmp_path: Path, official: Path) -> None:
    rows, report = run(tmp_path, official)
    assert rows["train"] == [
        ("A red house", "Ein rotes Haus", "books"),
        ("A green tree", "Ein grüner Baum", "books"),
    ]
    assert rows["valid"] == [("A completely different validation sentence 5", "Ein ganz anderer Satz 5", "dev")]
    # Line for line; sources are cleaned, references are as published but for their entities.
    assert rows["test"] == [
        ("Our dog sleeps & snores.", "Unser Hund schläft & schnarcht.", "exam"),
        ("Same", "Same", "exam"),
        ("", "leer", "exam"),
        ("Our dog sleeps & snores.", "Noch\u00a0einmal  dieselbe\xad Zeile", "exam"),
        ("1", ("zwei und drei " * 9).strip(), "exam"),
    ]
    reasons = "empty identical length length_ratio placeholder_mismatch number_mismatch wrong_script duplicate_pair"
    reasons += " duplicate_source held_out_exact held_out_near held_out_target_exact held_out_target_near"
    removed = {**dict.fromkeys(reasons.split(), 1), "length_in_characters": 0}
    assert report["pairs"] == {"read": 21, "train": 2, "valid": 1, "test": 5}
    assert report["removed"] == removed
    assert report["parts"]["books"] == {
        "read": 15,
        "kept": {"train": 2, "valid": 0, "test": 0},
        "removed": removed,
        "unwritable_references": 0,
    }
    assert report["parts"]["exam"]["unwritable_references"] == 1  # the soft hyphen
    examples = (tmp_path / "reports" / "removed" / "books.tsv").read_text(encoding="utf-8").splitlines()
    assert examples[0] == "filter\tsource\ttarget"
    assert [line.split("\t")[0] for line in examples[1:]] == reasons.split()
    assert "number_mismatch\tChapter 3 begins\tKapitel 4 beginnt" in examples
    assert "duplicate_source\tA red house\tDas rote Haus" in examples
    assert "held_out_target_near\tSomething else once more 99\tEin ganz anderer Satz 99" in examples
    assert report["parts"]["exam"]["kept"] == {"train": 0, "valid": 0, "test": 5}
    assert sum(report["parts"]["exam"]["removed"].values()) == 0
    assert report["words"]["train"] == {"source": 6, "target": 6}
    assert report["origins"] == {"train": {"books": 2}, "valid": {"dev": 1}, "test": {"exam": 5}}


def test_hash_split_never_moves_a_line_of_a_growing_corpus(tmp_path: Path) -> None:
    pairs, more = random_pairs(300, seed=1), random_pairs(300, seed=2)
    grown = [pair for both in zip(more, pairs, strict=True) for pair in both]
    splits: list[dict[str, str]] = []
    for name, content in (("small", pairs), ("large", grown)):
        raw = tmp_path / name / "raw"
        raw.mkdir(parents=True)
        write_lines(raw, "crawl", content)
        write_parts(raw, [part("crawl", None)])
        rows, _ = run(tmp_path / name, raw)
        splits.append({source: split for split in SPLITS for source, _, _ in rows[split]})
    small, large = splits
    assert len(small) == 300
    assert len(large) == 600
    assert small == {source: large[source] for source in small}
    assert set(small.values()) == set(SPLITS)


def test_order_and_one_split_for_each_source(tmp_path: Path) -> None:
    pairs = random_pairs(200, seed=3)
    repeated = pairs + [(source.upper(), f"{target} noch") for source, target in pairs]
    write_lines(tmp_path / "raw", "crawl", repeated)
    write_parts(tmp_path / "raw", [part("crawl", None)])
    rows, report = run(tmp_path, tmp_path / "raw")
    assert report["removed"]["duplicate_source"] == 200
    for split in SPLITS:
        kept = {source for source, _, _ in rows[split]}
        assert [(source, target) for source, target, _ in rows[split]] == [pair for pair in pairs if pair[0] in kept]
    assert sum(len(rows[split]) for split in SPLITS) == 200


def test_equal_bytes_whatever_the_batch_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(split_files, "ROW_GROUP_PAIRS", 64)
    write_lines(tmp_path / "raw", "crawl", random_pairs(500, seed=4) + random_pairs(50, seed=4))
    write_parts(tmp_path / "raw", [part("crawl", None)])
    hashes = []
    for run_number, batch_pairs in enumerate((100, 100, 1, 64, 10000)):
        folder = tmp_path / str(run_number)
        run(folder, tmp_path / "raw", PARAMS.model_copy(update={"batch_pairs": batch_pairs}))
        assert sorted(path.name for path in (folder / "corpus").iterdir()) == [
            "test.parquet",
            "train.parquet",
            "valid.parquet",
        ]
        hashes.append(sha256_of(folder))
    assert len(set(hashes)) == 1
    with pyarrow.parquet.ParquetFile(tmp_path / "0" / "corpus" / "train.parquet") as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    assert len(sizes) > 3
    assert set(sizes[:-1]) == {64}


def as_lines(raw: Path, pairs: Pairs) -> dict[str, str]:
    for side, column in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        (raw / f"a.{side}.gz").write_bytes(gzip.compress("\n".join(column).encode()))
    return {"format": "lines", "source": "a.en.gz", "target": "a.de.gz"}


def as_sgm(raw: Path, pairs: Pairs) -> dict[str, str]:
    for side, column in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
        segments = "\n".join(f'<seg id="{number}">{text}</seg>' for number, text in enumerate(column, 1))
        (raw / f"a.{side}.sgm").write_text(f'<srcset>\n<doc docid="d">\n{segments}\n</doc>\n</srcset>\n')
    return {"format": "sgm", "source": "a.en.sgm", "target": "a.de.sgm"}


def as_tsv(raw: Path, pairs: Pairs) -> dict[str, str]:
    (raw / "a.tsv").write_text("".join(f"{source}\t1\t{target}\n" for source, target in pairs))
    return {"format": "tsv", "source": "a.tsv", "target": "a.tsv", "source_field": "0", "target_field": "2"}


def as_parquet(raw: Path, pairs: Pairs) -> dict[str, str]:
    sources, targets = map(list, zip(*pairs, strict=True))
    pyarrow.parquet.write_table(pyarrow.table({"de": targets, "en": sources}), raw / "a.parquet")
    return {
        "format": "parquet",
        "source": "a.parquet",
        "target": "a.parquet",
        "source_field": "en",
        "target_field": "de",
    }


def as_catalogue(raw: Path, pairs: Pairs) -> dict[str, str]:
    with zipfile.ZipFile(raw / "a.zip", "w") as archive:
        for side, column in zip(("en", "de"), zip(*pairs, strict=True), strict=True):
            content = {"menu": {str(number): text for number, text in enumerate(column)}}
            archive.writestr(f"app/{side}.json", json.dumps(content))
    return {
        "format": "catalogue",
        "source": "a.zip",
        "target": "a.zip",
        "source_field": "*/en.json",
        "target_field": "*/de.json",
    }


@pytest.mark.parametrize("write", [as_lines, as_sgm, as_tsv, as_parquet, as_catalogue])
def test_every_format(tmp_path: Path, write: Callable[[Path, Pairs], dict[str, str]]) -> None:
    pairs = random_pairs(120, seed=5)
    (tmp_path / "raw").mkdir()
    write_parts(tmp_path / "raw", [part("text", None, **write(tmp_path / "raw", pairs))])
    rows, report = run(tmp_path, tmp_path / "raw")
    assert report["pairs"]["read"] == 120
    assert sorted((source, target) for split in SPLITS for source, target, _ in rows[split]) == sorted(pairs)
    origin = "text/menu" if write is as_catalogue else "text"
    assert {row[2] for split in SPLITS for row in rows[split]} == {origin}


def test_empty_split_names_what_to_change(tmp_path: Path, official: Path) -> None:
    write_parts(official, [part("books", "train"), part("dev", "valid")])
    with pytest.raises(
        DataError, match=r"^the test split is empty: at preparation\.test_share = 1e-09 none of 4"
    ) as caught:
        run(tmp_path, official, PARAMS.model_copy(update={"test_share": 1e-9}))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "reports" / "corpus.json").exists()


@pytest.mark.parametrize(
    ("pairs", "parts", "told"),
    [
        (
            [("same", "same")] * 5 + [("", "leer")],
            [part("text", "train")],
            "all 6 training pairs were removed, 5 by preparation.filters.identical, 1 by preparation.filters.empty; "
            "mend the corpus or switch that filter off",
        ),
        (
            [("a b", "c d")],
            [part("text", "test")],
            "no corpus brings training pairs; give one with `train` or `all` (published: split train, or none)",
        ),
    ],
)
def test_an_empty_train_split_says_why(tmp_path: Path, pairs: Pairs, parts: list[Part], told: str) -> None:
    write_lines(tmp_path / "raw", "text", pairs)
    write_lines(tmp_path / "raw", "dev", [("x y", "z z")])
    write_parts(tmp_path / "raw", [*parts, part("dev", "valid"), part("dev", "test")])
    with pytest.raises(DataError) as caught:
        run(tmp_path, tmp_path / "raw")
    assert str(caught.value) == f"the train split is empty: {told}"


def test_malformed_input_leaves_no_split_behind(tmp_path: Path, official: Path) -> None:
    (official / "exam.de").write_text("only one line\n")
    with pytest.raises(DataError, match=r"exam\.en: it has 5 lines and .*exam\.de has 1: pair 2 has no target"):
        run(tmp_path, official)
    assert list((tmp_path / "corpus").iterdir()) == []


def test_raw_folder_without_parts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"parts\.json is missing: run the download stage first"):
        prepare(PARAMS, tmp_path, tmp_path / "corpus", tmp_path / "corpus.json", tmp_path / "work", LocalExecutor(1))


@pytest.mark.parametrize("seed", range(6))
def test_the_output_does_not_depend_on_the_chunks(tmp_path: Path, seed: int) -> None:
    """Random corpora, with and without official splits, in which whole stretches are removed."""
    random_ = random.Random(seed)
    blocks: list[Pairs] = []
    for number in range(8):
        good = random_pairs(random_.randint(1, 15), seed=100 * seed + number)
        bad = random_.choice(
            [("", ""), ("untranslated", "untranslated"), ("Hello {name}", "Hallo {wer}"), ("a", "b " * 30)]
        )
        blocks += [good, [bad] * random_.randint(1, 12)]
    blocks += [blocks[0]]  # duplicates, too
    for name, pairs in (("crawl", [pair for block in blocks for pair in block]), ("dev", blocks[2] + blocks[1])):
        write_lines(tmp_path / "raw", name, pairs)
    parts = [part("crawl", None)] if seed % 2 else [part("crawl", "train"), part("dev", "valid"), part("dev", "test")]
    write_parts(tmp_path / "raw", parts)
    written = []
    for batch_pairs in (10_000, 1, 2, 3, 97):
        folder = tmp_path / str(batch_pairs)
        run(folder, tmp_path / "raw", PARAMS.model_copy(update={"batch_pairs": batch_pairs}))
        written.append((sha256_of(folder / "corpus"), sha256_of(folder / "reports")))
    assert set(written) == {written[0]}


def pairs_of(rows: dict[str, Rows]) -> list[tuple[str, str]]:
    return sorted((source, target) for split in SPLITS for source, target, _ in rows[split])


def test_duplicates_by_source_by_pair_or_not_at_all(tmp_path: Path) -> None:
    pairs = random_pairs(60, seed=6)
    text = [*pairs, *((source, f"{target} auch") for source, target in pairs[:9]), *pairs[:5]]
    write_lines(tmp_path / "raw", "crawl", text)
    write_parts(tmp_path / "raw", [part("crawl", None)])
    expected = {"source": sorted(pairs), "pair": sorted(set(text)), False: sorted(text)}
    for rule, kept in expected.items():
        rows, report = run(tmp_path / str(rule), tmp_path / "raw", with_filters(duplicates=rule, held_out=False))
        assert pairs_of(rows) == kept
        removed = report["removed"]
        assert (removed["duplicate_pair"], removed["duplicate_source"]) == {
            "source": (5, 9), "pair": (5, 0), False: (0, 0)
        }[rule]  # fmt: skip
        # Translations of the same source never come apart.
        splits = {
            source: {split for split in SPLITS for other, _, _ in rows[split] if other == source}
            for source, _ in kept
        }
        assert all(len(found) == 1 for found in splits.values())


def test_decontamination_can_be_switched_off_on_either_side(tmp_path: Path, official: Path) -> None:
    expected = (("held_out", 3), ("held_out_target", 4))  # one is near on both sides
    for off, kept in expected:
        rows, report = run(tmp_path / off, official, with_filters(**{off: False}))
        assert len(rows["train"]) == kept
        assert report["removed"][f"{off}_exact"] == report["removed"][f"{off}_near"] == 0


@pytest.mark.parametrize(("given", "missing"), [("test", "valid"), ("valid", "test"), ("", "valid test")])
def test_a_missing_split_is_drawn_from_train(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, given: str, missing: str
) -> None:
    pairs, held_out = random_pairs(200, seed=7), random_pairs(20, seed=8)
    write_lines(tmp_path / "raw", "crawl", pairs)
    write_lines(tmp_path / "raw", "exam", held_out)
    parts = [part("crawl", "train")] + ([part("exam", given)] if given else [])
    write_parts(tmp_path / "raw", parts)
    with caplog.at_level("INFO"):
        rows, _ = run(tmp_path / "out", tmp_path / "raw")
    write_parts(tmp_path / "raw", [part("crawl", None)])
    whole, _ = run(tmp_path / "whole", tmp_path / "raw")
    for split in missing.split():  # the same lines as if the corpus had no splits at all
        assert rows[split] == whole[split]
        assert f"no corpus has a {split} split: 0.1 of the training sources are held out" in caplog.text
    assert len(pairs_of(rows)) == 200 + (20 if given else 0)
    if given:
        assert len(rows[given]) == 20


def test_a_filter_that_removes_more_than_a_third_is_named_with_its_switch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pairs = random_pairs(100, seed=9)
    text = [(source, source if number < 40 else target) for number, (source, target) in enumerate(pairs)]
    write_lines(tmp_path / "raw", "crawl", text)
    write_parts(tmp_path / "raw", [part("crawl", None)])
    run(tmp_path / "out", tmp_path / "raw")
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        "crawl: the filter identical removed 40 of 100 pairs; reports/removed/crawl.tsv shows examples, "
        "preparation.filters.identical: false switches it off"
    ]
    caplog.clear()
    _, report = run(tmp_path / "off", tmp_path / "raw", with_filters(identical=False))
    assert (report["removed"]["identical"], caplog.records) == (0, [])


@pytest.mark.parametrize("batch_pairs", [3, 10_000])
def test_examples_are_a_sample_that_does_not_depend_on_chunks(tmp_path: Path, batch_pairs: int) -> None:
    same = [(f"line {word}", f"line {word}") for word, _ in random_pairs(45, seed=10)]
    write_lines(tmp_path / "raw", "crawl", [*random_pairs(30, seed=11), *same, *random_pairs(30, seed=11)])
    write_parts(tmp_path / "raw", [part("crawl", None)])
    for size in (batch_pairs, 50):
        run(tmp_path / str(size), tmp_path / "raw", PARAMS.model_copy(update={"batch_pairs": size}))
    found = [(tmp_path / str(size) / "reports/removed/crawl.tsv").read_text() for size in (batch_pairs, 50)]
    assert found[0] == found[1]
    filters = [line.split("\t")[0] for line in found[0].splitlines()[1:]]
    assert {name: filters.count(name) for name in filters} == {"identical": 20, "duplicate_pair": 20}
    assert [line for line in found[0].splitlines() if line.startswith("identical")] != [
        f"identical\t{source}\t{target}" for source, target in same[:20]
    ]


def test_references_that_no_model_can_write_are_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_lines(tmp_path / "raw", "crawl", random_pairs(200, seed=12))
    references = [
        "Gr\u00f6\u00dfe",
        "Gro\u0308\u00dfe",
        "Wort\u00adart",
        "Zeile\u200b",
        "1\u00a0000 Euro",
        "می\u200cخواهم",
    ]
    write_lines(tmp_path / "raw", "exam", [(f"line {n}", text) for n, text in enumerate(references)])
    write_parts(tmp_path / "raw", [part("crawl", "train"), part("exam", "test")])
    rows, report = run(tmp_path / "out", tmp_path / "raw")
    assert [target for _, target, _ in rows["test"]] == references  # as published
    assert report["parts"]["exam"]["unwritable_references"] == 3
    assert "exam: references with characters that the model can never write (" in caplog.text
    assert "): 3; they stay as published" in caplog.text
