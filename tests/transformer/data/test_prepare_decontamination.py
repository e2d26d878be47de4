"""Decontamination against a brute-force search, exact duplicates against a set, and the hash split."""

import random
from functools import partial

import numpy as np
import pytest
from raw_parts import PARAMS

from transformer.data.cleaning import fold_text
from transformer.data.parts import Split
from transformer.data.placeholders import mask
from transformer.data.prepare import decontamination, splits
from transformer.data.prepare.decontamination import HeldOutTexts, bit_counts, columns_at_least, trigram_sets
from transformer.data.prepare.splits import SPLITS, first_occurrences, split_numbers, text_hash


def shingles(text: str) -> set[str]:
    masked = fold_text(mask(text))
    return {masked[i : i + 3] for i in range(max(len(masked) - 2, 1))} - {""}


def nearest(text: str, held_out: list[str]) -> float:
    """The highest Jaccard similarity of `text` with any held-out text."""
    own = shingles(text)
    others = [shingles(other) for other in held_out]
    return max((len(own & other) / len(own | other) for other in others if own and other), default=0.0)


def random_texts(count: int, seed: int, alphabet: str) -> list[str]:
    random_ = random.Random(seed)
    return ["".join(random_.choices(alphabet, k=random_.randint(0, 24))) for _ in range(count)]


def edited(texts: list[str], seed: int) -> list[str]:
    """The texts with random spans cut out, doubled or replaced, so that similarities of all sizes occur."""
    random_ = random.Random(seed)
    result = []
    for text in texts:
        for _ in range(random_.randint(0, 3)):
            begin, end = sorted(random_.choices(range(len(text) + 1), k=2))
            span = random_.choice(["", "x", text[begin:end] * 2, "{y}", "77"])
            text = text[:begin] + span + text[end:]
        result.append(text)
    return result


@pytest.mark.parametrize("threshold", [0.1, 0.3, 0.5, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("alphabet", ["ab ", "abcdefgh 12", "аб한字😀{}<>x"])
def test_near_duplicates_equal_brute_force(threshold: float, alphabet: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decontamination, "ROWS_AT_A_TIME", 64)  # several rounds
    held_out = random_texts(80, seed=1, alphabet=alphabet)
    train = random_texts(100, seed=2, alphabet=alphabet) + edited(held_out, seed=3)
    expected = [nearest(text, held_out) >= threshold for text in train]
    assert HeldOutTexts(held_out, threshold).near(train).tolist() == expected
    assert any(expected)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_pieces_of_longer_texts(threshold: float) -> None:
    """A piece shares all its trigrams with the whole: the similarity is the ratio of sizes, often just enough."""
    texts = [text * 6 for text in random_texts(40, seed=8, alphabet="abcdefgh ")]
    mixed = ["".join(random.Random(number).sample(text, len(text))) for number, text in enumerate(texts)]
    random_ = random.Random(9)
    pieces = [text[: round(len(text) * threshold) + random_.randint(-2, 4)] for text in mixed for _ in range(5)]
    for held_out, train in ((mixed, pieces), (pieces, mixed)):
        expected = [nearest(text, held_out) >= threshold for text in train]
        assert HeldOutTexts(held_out, threshold).near(train).tolist() == expected
        assert 0 < sum(expected) < len(expected)


def test_a_similarity_of_exactly_the_threshold_counts() -> None:
    # abcde and abcdxyz... share abc and bcd of 3 + 5 - 2 = 6 trigrams
    assert HeldOutTexts(["abcde"], 2 / 6).near(["abcdxyz"]).tolist() == [True]
    assert HeldOutTexts(["abcde"], 2 / 6 + 1e-6).near(["abcdxyz"]).tolist() == [False]
    # 7 of 25 trigrams: in floating point 0.28 * 25 is a little more than 7
    assert HeldOutTexts(["abcdefghi"], 0.28).near(["abcdefghijklmnopqrstuvwxyz!"]).tolist() == [True]


def test_case_digits_and_placeholders_are_set_aside() -> None:
    index = HeldOutTexts(["Battery 1 of {device}"], 1.0)
    assert index.near(["BATTERY 22 of {name}", "Battery 1 of device", "Battery one of {device}"]).tolist() == [
        True,
        False,
        False,
    ]
    assert index.exact(["battery 1 OF {device}", "Battery 2 of {device}"]).tolist() == [True, False]


@pytest.mark.parametrize("alphabet", ["ab ", "abcdefgh 12", "аб한字😀{}<>x"])
def test_a_similarity_of_one_is_the_same_text(alphabet: str) -> None:
    held_out = random_texts(80, seed=4, alphabet=alphabet)
    train = random_texts(100, seed=5, alphabet=alphabet) + edited(held_out, seed=6) + held_out
    masked = {fold_text(mask(text)) for text in held_out} - {""}
    expected = [fold_text(mask(text)) in masked for text in train]
    assert HeldOutTexts(held_out, 1.0).near(train).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_nothing_held_out_and_nothing_to_check() -> None:
    assert HeldOutTexts([], 0.5).near(["a", "abc"]).tolist() == [False, False]
    assert HeldOutTexts(["", "abc"], 0.5).near(["", "ab", "abc"]).tolist() == [False, False, True]
    assert HeldOutTexts(["abc"], 0.5).near([]).tolist() == []


def test_trigram_sets_of_more_characters_than_fit_beside_their_row() -> None:
    every = "".join(map(chr, [*range(1, 0xD800), *range(0xE000, 0x2F000)]))
    sets = trigram_sets([every, "abc", every[:5], "abc"])
    assert sets.sizes.tolist() == [len(every) - 2, 1, 3, 1]
    assert len(sets.trigrams) == len(every) - 2
    assert (np.diff(sets.trigrams) > 0).all()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 100])
def test_counts_of_bits_by_column(count: int) -> None:
    random_ = np.random.default_rng(count)
    bits = random_.random((count, 3, 128)) < 0.5
    words = np.packbits(bits, axis=2, bitorder="little").view("<u8").astype(np.uint64)
    least = np.array([1, count // 2 + 1, count + 1])
    expected = np.argwhere(bits.sum(axis=0) >= least[:, None])
    assert np.stack(columns_at_least(bit_counts(words), least), axis=1).tolist() == expected.tolist()


def test_trigram_sets_of_characters_beyond_the_basic_plane() -> None:
    sets = trigram_sets(["", "a", "ab", "😀😀😀😀", "abcabc"])
    assert sets.sizes.tolist() == [0, 1, 1, 1, 3]
    assert len(set(sets.trigrams.tolist())) == 6


def test_first_occurrences_equal_a_set(monkeypatch: pytest.MonkeyPatch) -> None:
    random_ = random.Random(7)
    values = [random_.choice([random_.randrange(2**64), random_.randrange(300)]) for _ in range(3000)]
    seen: set[int] = set()
    expected = [not (value in seen or seen.add(value)) for value in values]
    hashes = np.array(values, dtype=np.uint64)
    for partition in (1 << 23, 700):
        monkeypatch.setattr(splits, "PARTITION_HASHES", partition)
        for pieces in (np.array_split(hashes, count) for count in (1, 40)):
            assert first_occurrences(partial(list, pieces)).tolist() == expected
    assert first_occurrences(lambda: []).tolist() == []


def test_text_hash_is_fixed_for_ever() -> None:
    """Another hash would move the lines of every user's corpus to other splits."""
    assert text_hash("a small house") == 0x20AB43E9123BB204  # b2sum --length 64
    assert text_hash("größer") == 0x1605D72E4CE63BAE


def test_split_shares() -> None:
    params = PARAMS.model_copy(update={"valid_share": 0.05, "test_share": 0.1})
    both: frozenset[Split] = frozenset({"valid", "test"})
    hashes = np.array([text_hash(f"sentence {number}") for number in range(20000)], dtype=np.uint64)
    splits = [SPLITS[number] for number in split_numbers(hashes, params, both)]
    # Four standard deviations of a binomial distribution.
    assert abs(splits.count("test") - 2000) < 4 * (20000 * 0.1 * 0.9) ** 0.5
    assert abs(splits.count("valid") - 1000) < 4 * (20000 * 0.05 * 0.95) ** 0.5
    ends = split_numbers(np.array([0, 2**64 - 1], dtype=np.uint64), params, both)
    assert [SPLITS[number] for number in ends] == ["test", "train"]
    # A split that is not drawn leaves its pairs in train, and moves none of the others.
    only_valid = [SPLITS[number] for number in split_numbers(hashes, params, frozenset({"valid"}))]
    assert only_valid == ["train" if split == "test" else split for split in splits]
