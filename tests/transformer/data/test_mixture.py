"""Pairs replayed from the parent's corpus, and corpora sampled by temperature."""

import math
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from corpora import Pairs, write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs

from transformer.data.tokenize.mixture import Mixture, write_mixture
from transformer.files import sha256_of
from transformer.params import TokenizationParams
from transformer.tokens.store import TokenSplit

PAIRS = synthetic_pairs(400)


def write(path: Path, by_origin: dict[str, Pairs]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [(source, target, origin) for origin, pairs in by_origin.items() for source, target in pairs]
    names = ("source", "target", "origin")
    pq.write_table(pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))), path)
    return path


def corpus(folder: Path, train: dict[str, Pairs], valid: Pairs = PAIRS[:5], test: Pairs = PAIRS[5:10]) -> Path:
    write(folder / "train.parquet", train)
    write(folder / "valid.parquet", {"x": valid})
    write(folder / "test.parquet", {"x": test})
    return folder


def mixed(path: Path) -> Counter[tuple[str, str]]:
    table = pq.read_table(path)
    return Counter(zip(table.column("source").to_pylist(), table.column("target").to_pylist(), strict=True))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 100.0])
def test_a_corpus_counts_as_its_share_to_the_power_of_one_over_the_temperature(
    tmp_path: Path, temperature: float
) -> None:
    large, small = PAIRS[10:330], PAIRS[330:350]
    folder = corpus(tmp_path / "corpus", {"large/a": large[:100], "large/b": large[100:], "small": small})
    found = write_mixture(Mixture(None, 0.0, temperature), folder, tmp_path / "mixed.parquet")
    counts = mixed(tmp_path / "mixed.parquet")
    expected = 320 * (20 / 320) ** (1 / temperature)
    assert sum(counts[pair] for pair in large) == 320
    assert sum(counts[pair] for pair in small) == math.floor(expected + 1e-9)
    repeats = [counts[pair] for pair in small]
    assert max(repeats) - min(repeats) <= 1  # evenly
    assert found["corpora"]["small"] == {"pairs": 20, "an_epoch": math.floor(expected + 1e-9)}


def test_a_share_is_replayed_but_nothing_held_out_and_nothing_twice(tmp_path: Path) -> None:
    new, old = PAIRS[10:110], PAIRS[110:310]
    folder = corpus(tmp_path / "corpus", {"new": new}, valid=[(PAIRS[300][0].upper(), "x")])
    replay = write(tmp_path / "old.parquet", {"old": [*old, *new[:20], *PAIRS[5:10]]})
    found = write_mixture(Mixture(replay, 1.0, 1.0), folder, tmp_path / "all.parquet")
    assert mixed(tmp_path / "all.parquet") == Counter([*new, *(pair for pair in old if pair != PAIRS[300])])
    assert found["not_replayed"] == {"held_out": 6, "known": 20}
    assert found["corpora"]["replayed old"] == {"pairs": 199, "an_epoch": 199}
    write_mixture(Mixture(replay, 0.25, 1.0), folder, tmp_path / "quarter.parquet")
    chosen = mixed(tmp_path / "quarter.parquet") - Counter(new)
    assert sum(chosen.values()) == 50
    assert all(sum(pair in chosen for pair in old[part : part + 40]) == 10 for part in range(0, 160, 40))


def test_tokens_hold_the_mixture_and_without_one_the_corpus_byte_for_byte(tmp_path: Path) -> None:
    settings = TokenizationParams(**TINY_PARAMS["tokenization"])
    splits = {"train": PAIRS[10:300], "valid": PAIRS[:5], "test": PAIRS[5:10]}
    replay = write(tmp_path / "old.parquet", {"old": PAIRS[300:400]})
    plain = write_tokens(tmp_path / "plain", splits, settings)
    same = write_tokens(tmp_path / "same", splits, settings, mixture=Mixture(None, 0.0, 1.0))
    assert sha256_of(plain) == sha256_of(same)
    more = write_tokens(tmp_path / "more", splits, settings, mixture=Mixture(replay, 0.5, 1.0))
    again = write_tokens(tmp_path / "again", splits, settings, mixture=Mixture(replay, 0.5, 1.0))
    assert len(TokenSplit.open(more, "train")) == 290 + 50
    assert sha256_of(more) == sha256_of(again)
    assert (more / "spm.model").read_bytes() == (plain / "spm.model").read_bytes()
