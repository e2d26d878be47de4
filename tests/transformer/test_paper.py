"""The presets hold the paper's values, docs/paper.md is up to date, and every difference has a reason."""

import shutil
from pathlib import Path

import pytest

from transformer.evaluation.published import TEST_SETS
from transformer.paper.document import DOCUMENT, Presets, document
from transformer.paper.values import DEVIATIONS, FIXED, NOT_STATED, PRESETS, VALUES, Value

CHECKOUT = Path(__file__).parents[2]


def differences(checkout: Path) -> list[str]:
    """Where a preset does not hold what the table expects."""
    presets = Presets(checkout)
    return [
        f"{preset}: {value.key} = {held!r}, expected {expected!r} ({value.section})"
        for value in VALUES
        for preset, held, expected in zip(PRESETS, presets.held(value.key), value.expected, strict=True)
        if held != expected
    ]


def test_the_presets_hold_the_papers_values() -> None:
    assert differences(CHECKOUT) == []


def test_the_document_is_up_to_date() -> None:
    written = (CHECKOUT / DOCUMENT).read_text(encoding="utf-8")
    assert written == document(CHECKOUT), "run `python -m transformer.paper`"


@pytest.mark.parametrize(
    ("preset", "line", "drifted", "key"),
    [
        ("wmt14-en-de-base", "alpha: 0.6 ", "alpha: 0.7 ", "decoding.alpha"),
        ("wmt14-en-de-big", "dropout: 0.3", "dropout: 0.1", "model.dropout"),
        ("wmt14-en-fr-big", "count: 20", "count: 10", "averaging.count"),
        ("wmt14-en-fr-base", "vocabulary_size: 32000", "vocabulary_size: 37000", "tokenization.vocabulary_size"),
    ],
)
def test_a_preset_that_drifts_is_noticed(tmp_path: Path, preset: str, line: str, drifted: str, key: str) -> None:
    shutil.copytree(CHECKOUT / "presets", tmp_path / "presets")
    (tmp_path / "data").mkdir()
    shutil.copy(CHECKOUT / "data" / "corpora.yaml", tmp_path / "data")
    path = tmp_path / "presets" / f"{preset}.yaml"
    assert path.read_text().count(line) == 1
    path.write_text(path.read_text().replace(line, drifted))
    found = differences(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{preset}: {key} = ")
    assert document(tmp_path) != document(CHECKOUT)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.key)
def test_what_is_not_the_papers_has_a_reason(value: Value) -> None:
    assert value.section[0] in "356"
    assert bool(value.deviation) or value.ours is None
    assert not value.deviation or value.deviation in DEVIATIONS
    assert NOT_STATED not in value.expected


def test_the_document_gives_the_parameters_beside_table_3() -> None:
    base, big, *_ = Presets(CHECKOUT).parameters()
    assert (base, big) == pytest.approx((63.1, 214.2), abs=0.05)
    text = document(CHECKOUT)
    assert f"| `wmt14-en-de-base` | 65 M | {base:.1f} M | 37000 |" in text
    assert f"| `wmt14-en-de-big` | 213 M | {big:.1f} M | 37000 |" in text


def test_modules_tests_and_test_sets_that_are_named_exist() -> None:
    for _, _, module, test in FIXED:
        assert (CHECKOUT / module).is_file(), module
        assert (CHECKOUT / test).is_file(), test
    parts = {part.name for name in ("wmt14-en-de", "wmt14-en-fr") for part in Presets(CHECKOUT).registry[name].parts}
    assert set(TEST_SETS) <= parts
