"""Each sentence once an epoch, caps honoured, padding right, plans a function of seed and epoch alone."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from corpora import write_side
from tiny_inputs import TINY_PARAMS

from transformer.errors import DataError, ParamsError
from transformer.params import TrainingParams
from transformer.tokens.store import SIDES, TokenSplit
from transformer.tokens.vocabulary import BOS, EOS, PAD
from transformer.training.batching import (
    Update,
    assemble,
    micro_batches,
    plan_epoch,
    target_token_count,
    usable_sentences,
)


def write_split(tokens: Path, pairs: list[tuple[list[int], list[int]]], vocabulary_size: int = 1000) -> TokenSplit:
    for side, name in enumerate(SIDES):
        write_side(tokens, name, [pair[side] for pair in pairs], vocabulary_size)
    return TokenSplit.open(tokens, "train")


def random_pairs(count: int, seed: int = 1, longest: int = 40) -> list[tuple[list[int], list[int]]]:
    random = np.random.default_rng(seed)

    def draw() -> list[int]:
        return random.integers(4, 1000, random.integers(1, longest)).tolist()

    return [(draw(), draw()) for _ in range(count)]


@pytest.fixture
def split(tmp_path: Path) -> TokenSplit:
    return write_split(tmp_path, random_pairs(500))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    pairs = random_pairs(50)
    split = write_split(tmp_path, pairs)
    assert isinstance(split.source.ids, np.memmap)
    assert [split.source[i].tolist() for i in range(50)] == [[*source, EOS] for source, _ in pairs]
    assert [split.target[i].tolist() for i in range(50)] == [[*target, EOS] for _, target in pairs]


def test_large_vocabularies_get_wider_ids(tmp_path: Path) -> None:
    assert write_split(tmp_path, [([70_000], [4])], vocabulary_size=80_000).source[0].tolist() == [70_000, EOS]


def test_sides_that_are_not_aligned_are_refused(tmp_path: Path) -> None:
    write_split(tmp_path, random_pairs(3))
    write_side(tmp_path, "target", [[5]], 1000)
    with pytest.raises(DataError, match="3 source but 1 target"):
        TokenSplit.open(tmp_path, "train")


def planned(split: TokenSplit, target_tokens: int, groups: int, seed: int = 3, epoch: int = 0) -> list[Update]:
    settings = {
        **TINY_PARAMS["training"],
        "batch_target_tokens": target_tokens,
        "length_groups": groups,
        "seed": seed,
    }
    return plan_epoch(split, usable_sentences(split, 64), TrainingParams(**settings), epoch)


@pytest.mark.parametrize(
    ("target_tokens", "groups"), [(1, 1), (100, 1), (1000, 8), (1000, 1), (10**9, 1), (10**9, 3)]
)
def test_each_sentence_once_and_no_update_over_the_cap(split: TokenSplit, target_tokens: int, groups: int) -> None:
    plan = planned(split, target_tokens, groups)
    assert sorted(np.concatenate([group for update in plan for group in update]).tolist()) == list(range(500))
    for update in plan:
        assert len(update) <= groups
        for group in update:
            assert target_token_count(split, group) <= target_tokens // groups or len(group) == 1


def test_updates_are_nearly_full(split: TokenSplit) -> None:
    counts = sorted(target_token_count(split, group) for update in planned(split, 4000, 4) for group in update)
    assert counts[1] > 1000 - 41  # all but the last could not take one more sentence


def test_the_plan_follows_from_seed_and_epoch(split: TokenSplit) -> None:
    def flat(seed: int, epoch: int) -> list[int]:
        plan = planned(split, 300, 2, seed, epoch)
        return np.concatenate([group for update in plan for group in update]).tolist()

    assert flat(1, 0) == flat(1, 0)
    assert flat(1, 0) != flat(1, 1)
    assert flat(1, 0) != flat(2, 0)


def test_sentences_of_a_group_are_of_like_length(split: TokenSplit) -> None:
    groups = [group for update in planned(split, 1200, 4) for group in update]
    ranges = sorted((lengths.min(), lengths.max()) for lengths in (split.target.lengths[group] for group in groups))
    assert all(shorter[1] <= longer[0] for shorter, longer in pairwise(ranges))


def test_too_long_sentences_are_left_out(split: TokenSplit) -> None:
    usable = usable_sentences(split, 20)
    longest = np.maximum(split.source.lengths, split.target.lengths)
    assert usable.tolist() == [i for i in range(500) if longest[i] <= 20]
    with pytest.raises(ParamsError, match=r"model\.max_positions = 1: every sentence is longer"):
        usable_sentences(split, 1)


@pytest.mark.parametrize("cap", [40, 64, 200, 10_000])
def test_micro_batches_divide_a_group_within_the_cap(split: TokenSplit, cap: int) -> None:
    for (group,) in planned(split, 500, 1):
        pieces = micro_batches(split, group, cap)
        assert np.concatenate(pieces).tolist() == group.tolist()
        for piece in pieces:
            batch = assemble(split, piece)
            assert max(batch.source.numel(), batch.target_out.numel()) <= cap


def test_a_sentence_over_the_micro_batch_is_named(split: TokenSplit) -> None:
    with pytest.raises(ParamsError, match=r"training\.micro_batch_tokens = 5: a sentence has \d+ tokens"):
        micro_batches(split, np.arange(500), 5)


def test_a_batch_by_hand(tmp_path: Path) -> None:
    split = write_split(tmp_path, [([5, 6, 7], [8]), ([9], [10, 11])])
    batch = assemble(split, np.array([1, 0]))
    assert batch.source.tolist() == [[9, EOS, PAD, PAD], [5, 6, 7, EOS]]
    assert batch.target_out.tolist() == [[10, 11, EOS], [8, EOS, PAD]]
    assert batch.target_in.tolist() == [[BOS, 10, 11], [BOS, 8, EOS]]
