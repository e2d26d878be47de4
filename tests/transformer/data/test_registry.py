"""The committed registry is what the sources' table says, and a wrong registry ends in one line."""

from pathlib import Path

import pytest

from transformer.data.download.corpora import Corpus, LocalCorpus, load_corpora
from transformer.errors import ParamsError

REGISTRY = Path(__file__).parents[3] / "data" / "corpora.yaml"

# Typed by hand from the published recipes, apart from the registry.
WMT14 = {
    "training-parallel-europarl-v7.tgz": (
        "http://www.statmt.org/wmt13/training-parallel-europarl-v7.tgz",
        657632379,
        "sha256:0224c7c710c8a063dfd893b0cc0830202d61f4c75c17eb8e31836103d27d96e7",
    ),
    "training-parallel-commoncrawl.tgz": (
        "http://www.statmt.org/wmt13/training-parallel-commoncrawl.tgz",
        918311367,
        "sha256:c7a74e2ea01ac6c920123108627e35278d4ccb5701e15428ffa34de86fa3a9e5",
    ),
    "training-parallel-nc-v9.tgz": (
        "http://www.statmt.org/wmt14/training-parallel-nc-v9.tgz",
        80418416,
        "sha256:cb8953f292298e6877ae433c98912b927cb0766b303f4540512ddd286c748485",
    ),
    "training-parallel-un.tgz": (
        "http://www.statmt.org/wmt13/training-parallel-un.tgz",
        2365634246,
        "sha256:29141b5c1eba149a94f7a59d3b1a834b2e47fe0f8758d68dcd77a3d3f497ee47",
    ),
    "training-giga-fren.tar": (
        "http://www.statmt.org/wmt10/training-giga-fren.tar",
        2595102720,
        "sha256:3ff8319f6919393520559bfbc7ad6a747ec81b3abc7be9993b338d4b017b4d9a",
    ),
    "dev.tgz": (
        "http://data.statmt.org/wmt19/translation-task/dev.tgz",
        38654961,
        "sha256:7a7deccf82ebb05ba508dba5eb21356492224e8f630ec4f992132b029b4b25e7",
    ),
    "test-full.tgz": ("http://www.statmt.org/wmt14/test-full.tgz", None, "md5:a8cd784e006feb32ac6f3d9ec7eb389a"),
    "test-filtered.tgz": (
        "http://www.statmt.org/wmt14/test-filtered.tgz",
        None,
        "md5:84c597844c1542e29c2aff23aaee4310",
    ),
}


@pytest.fixture(scope="module")
def published() -> dict[str, Corpus]:
    return {name: entry for name, entry in load_corpora(REGISTRY).items() if isinstance(entry, Corpus)}


def test_the_committed_corpora(published: dict[str, Corpus]) -> None:
    assert list(published) == ["interface-strings", "multi30k", "wmt14-en-de", "wmt14-en-fr"]
    for corpus in published.values():
        assert corpus.licence
        assert corpus.citation


@pytest.mark.parametrize(("name", "absent"), [("wmt14-en-de", {"un", "giga"}), ("wmt14-en-fr", {"filtered"})])
def test_wmt14_files(published: dict[str, Corpus], name: str, absent: set[str]) -> None:
    files = {file: (source.url, source.bytes, source.known_hash) for file, source in published[name].files.items()}
    assert files == {file: known for file, known in WMT14.items() if not any(word in file for word in absent)}


def test_wmt14_members_follow_the_direction(published: dict[str, Corpus]) -> None:
    parts = {part.name: part for part in published["wmt14-en-de"].parts}
    assert parts["europarl-v7"].path("de", "ref") == "training/europarl-v7.de-en.de"
    assert parts["newstest2013"].path("en", "src") == "dev/newstest2013.en"
    assert parts["newstest2014"].path("en", "src") == "test-full/newstest2014-deen-src.en.sgm"
    assert parts["newstest2014"].path("de", "ref") == "test-full/newstest2014-deen-ref.de.sgm"
    assert parts["newstest2014"].path("de", "src") == "test-full/newstest2014-deen-src.de.sgm"
    french = {part.name: part for part in published["wmt14-en-fr"].parts}
    assert french["giga-fren"].path("fr", "ref") == "giga-fren.release2.fixed.fr.gz"
    assert french["un"].path("en", "src") == "un/undoc.2000.fr-en.en"
    assert {part.split for part in french.values()} == {"train", "valid", "test"}


def test_multi30k(published: dict[str, Corpus]) -> None:
    corpus = published["multi30k"]
    source = corpus.files["train.de.gz"]
    commit = "a3d2e0d26b56f3846f66a952536ffed4e401d05a"
    assert source.url == f"https://raw.githubusercontent.com/multi30k/dataset/{commit}/data/task1/raw/train.de.gz"
    assert source.bytes == 637044
    assert source.sha256 == "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"
    assert len(corpus.files) == 15
    assert [part.name for part in corpus.parts if part.split == "test"] == [
        "test_2016_flickr",
        "test_2017_flickr",
        "test_2017_mscoco",
    ]


def test_interface_strings(published: dict[str, Corpus]) -> None:
    (source,) = published["interface-strings"].files.values()
    assert (source.wheel, source.python, source.bytes) == ("homeassistant==2026.2.3", "3.13.2", 51240053)


def test_the_example_at_the_registrys_end_is_valid_as_written(tmp_path: Path) -> None:
    text = REGISTRY.read_text(encoding="utf-8")
    example = text[text.rindex("# mine:") :].replace("\n# ", "\n").removeprefix("# ")
    (tmp_path / "corpora.yaml").write_text(example)
    entry = load_corpora(tmp_path / "corpora.yaml")["mine"]
    assert isinstance(entry, LocalCorpus)
    assert entry.languages == ["de", "en"]


GOOD = """
toy:
  licence: CC0
  citation: nobody
  languages: [en, de]
  files:
    a.tgz: {url: "https://host.org/a.tgz", bytes: 5, sha256: "HASH"}
  parts:
    - {name: toy, split: train, format: lines, archive: a.tgz, file: "a.{language}"}
""".replace("HASH", "0" * 64)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("licence: CC0", "license: CC0", r"toy\.license is not a key"),
        ("  licence: CC0\n", "", r"toy\.licence is missing"),
        ("bytes: 5", "bytes: many", r"toy\.files\.a\.tgz\.bytes = 'many': "),
        ("0" * 64, "abc", r"toy\.files\.a\.tgz\.sha256 = 'abc': "),
        ("https://host.org/a.tgz", "ftp://host.org/a.tgz", r"toy\.files\.a\.tgz\.url = 'ftp:"),
        ("a.tgz: {url", "../a.tgz: {url", r"toy: files: '\.\./a\.tgz' is not a plain file name"),
        (f', sha256: "{"0" * 64}"', "", r"toy\.files\.a\.tgz: needs either sha256 or"),
        ('url: "https://host.org/a.tgz"', "wheel: a==1", r"toy\.files\.a\.tgz: a wheel needs python"),
        ("archive: a.tgz", "archive: b.tgz", r"toy: part toy names b\.tgz, which is not among files"),
        ("archive: a.tgz, ", "", r"toy: part toy names a\.de, which is not among files"),
        ('file: "a.{language}"', 'file: "../a.{language}"', r"toy\.parts\.0: file must be a relative path"),
        ("split: train", "split: dev", r"toy\.parts\.0\.split = 'dev'"),
        ("format: lines", "format: catalogue", r"toy\.parts\.0: a catalogue, and nothing else, needs a member"),
        ("  languages: [en, de]\n", "", "toy: languages is missing"),
        ("toy:\n", "../toy:\n", r"'\.\./toy' is not a corpus name"),
        (GOOD, "just text", "must map corpus names"),
        (GOOD, "a: [", "line 2: not YAML"),
        (GOOD, "m: {local: {train: {en: a}}}", r"m\.local\.train: needs two languages"),
        (GOOD, "m: {local: {train: {en: a, de: 1}}}", r"m\.local\.train: .*: a path for each language expected"),
        (
            GOOD,
            "m: {local: {train: {file: a.tsv, en: x, de: 1}}}",
            "column numbers from 0, or the names in the first line expec",
        ),
        (GOOD, "m: {local: {train: {file: a.parquet, en: 0, de: 1}}}", "column names, nested ones with dots"),
        (GOOD, "m: {local: {train: {file: a.sgm, en: 0, de: 1}}}", "sgm has a file for each language, as in"),
        (
            GOOD,
            "m: {local: {train: {file: a.po, en: msgid, de: x}}}",
            "msgid for one language and msgstr for the oth",
        ),
        (GOOD, "m: {local: {train: {file: a.tsv, en: 0, de: 2, width: 2}}}", r"below width = 2"),
        (GOOD, "m: {local: {train: {file: a.tsv, en: 1, de: 1}}}", r"two languages at the same place"),
        (GOOD, "m: {local: {train: {fromat: tsv, en: a, de: b}}}", r"'fromat' is neither the code of a language nor"),
        (
            GOOD,
            "m: {local: {train: {format: csv, en: a, de: b}}}",
            r"m\.local\.train\.format = 'csv': input should be",
        ),
        ('url: "https://host.org/a.tgz", ', "", r"toy\.files\.a\.tgz: needs either url or wheel"),
        (
            'format: lines, archive: a.tgz, file: "a.{language}"',
            "format: tsv, archive: a.tgz, file: a, columns: {en: 0}",
            "toy: part toy: columns does not say where de is",
        ),
        (
            "  parts:",
            "  parts:\n    - {name: toy, format: lines, archive: a.tgz, file: b}",
            "parts must have different na",
        ),
        (GOOD, "m: {local: {train: {format: catalogue, en: a, de: b}}}", "a catalogue is for published packages"),
        (
            GOOD,
            "m: {local: {train: {file: a.po, en: msgid, de: msgstr, width: 3}}}",
            "width is for tsv with numbered",
        ),
        (GOOD, "m: {local: {train: {file: a.tsv, en: -1, de: 1}}}", "column numbers from 0, or the names"),
        (
            GOOD,
            "m: {local: {train: {file: a.tsv, en: 0, de: 1, blank_lines: no}}}",
            r"blank_lines = 'no': input should be",
        ),
        ("format: lines", "format: tsv", r"toy\.parts\.0: file holds both sides, so its name has no \{language\}"),
        (GOOD, "m: {local: {training: {en: a, de: b}}}", r"m\.local\.training = 'training': "),
    ],
)
def test_a_wrong_registry_ends_in_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "corpora.yaml"
    assert old in GOOD
    path.write_text(GOOD)
    load_corpora(path)
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(ParamsError, match=told) as caught:
        load_corpora(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_missing_registry(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="is missing"):
        load_corpora(tmp_path / "corpora.yaml")
