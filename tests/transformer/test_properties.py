"""What holds for any text, any lengths, any params: hypothesis looks for the exception."""

import json
import os
import tempfile
import unicodedata
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_inputs import TINY_PARAMS

from transformer.data.cleaning import clean_text, fold_text
from transformer.data.download.corpora import load_corpora
from transformer.decoding.search import length_penalty
from transformer.errors import ParamsError
from transformer.params import Params, TrainingParams, params_from
from transformer.tokens.store import TokenSide, TokenSplit
from transformer.tokens.vocabulary import BOS, EOS, PAD
from transformer.training.batching import assemble, micro_batches, packed_batches, plan_epoch, usable_sentences

settings.register_profile(
    "quick", max_examples=int(os.environ.get("EXAMPLES", "60")), deadline=None, derandomize=True
)
settings.load_profile("quick")
TEXTS = st.text(st.characters(), max_size=40)  # all of Unicode, lone surrogates too


def check_told(error: ParamsError, begins: str) -> None:
    """One line that names the file."""
    assert str(error).startswith(begins)
    assert "\n" not in str(error)


@given(TEXTS)
def test_clean_text_is_one_line_of_visible_characters(text: str) -> None:
    clean = clean_text(text)
    clean.encode("utf-8")
    assert clean == " ".join(clean.split())
    assert unicodedata.is_normalized("NFC", clean)
    assert not [sign for sign in clean if unicodedata.category(sign) in ("Cc", "Cs", "Zl", "Zp")]


@given(TEXTS.filter(lambda text: "&" not in text))
def test_clean_text_is_clean(text: str) -> None:
    assert clean_text(clean_text(text)) == clean_text(text)


@given(st.text(st.characters(exclude_categories=["C", "Z"], exclude_characters="&"), min_size=1, max_size=20))
def test_cleaning_loses_no_visible_character(text: str) -> None:
    assert unicodedata.normalize("NFC", clean_text(text)) == unicodedata.normalize("NFC", " ".join(text.split()))


@given(TEXTS)
def test_folding_is_final(text: str) -> None:
    assert fold_text(fold_text(text)) == fold_text(text)


LENGTHS = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 60)), min_size=1, max_size=80)


def split_of(lengths: list[tuple[int, int]]) -> TokenSplit:
    """Sentences of these lengths in tokens, EOS included, with distinct ids."""
    sides = []
    for side in (0, 1):
        counts = [length[side] for length in lengths]
        ids = np.arange(sum(counts), dtype=np.uint32) + 10
        ends = np.cumsum([0, *counts])
        ids[ends[1:] - 1] = EOS
        sides.append(TokenSide(ids, ends.astype(np.int64)))
    return TokenSplit(*sides)


def training(**changed: Any) -> TrainingParams:
    return TrainingParams(**{**TINY_PARAMS["training"], **changed})


@given(LENGTHS, st.integers(1, 300), st.integers(1, 4), st.integers(0, 2**63), st.integers(0, 5), st.integers(1, 60))
def test_an_epoch_is_every_usable_sentence_once(
    lengths: list[tuple[int, int]], tokens: int, groups: int, seed: int, epoch: int, longest: int
) -> None:
    split = split_of(lengths)
    fits = [n for n, pair in enumerate(lengths) if max(pair) <= longest]
    if not fits:
        with pytest.raises(ParamsError, match="every sentence is longer"):
            usable_sentences(split, longest)
        return
    usable = usable_sentences(split, longest)
    assert usable.tolist() == fits
    params = training(batch_target_tokens=max(tokens, groups), length_groups=groups, seed=seed)
    updates = plan_epoch(split, usable, params, epoch)
    planned = [[int(n) for n in group] for update in updates for group in update]
    assert sorted(n for group in planned for n in group) == fits
    for group in planned:
        assert len(group) == 1 or sum(lengths[n][1] for n in group) <= params.batch_target_tokens // groups
    assert all(len(update) <= groups for update in updates)
    again = plan_epoch(split, usable, params, epoch)
    assert [[group.tolist() for group in update] for update in again] == [
        [group.tolist() for group in update] for update in updates
    ]


@given(LENGTHS, st.integers(60, 400))
def test_micro_batches_divide_a_group_and_fit(lengths: list[tuple[int, int]], limit: int) -> None:
    split = split_of(lengths)
    pieces = micro_batches(split, np.arange(len(lengths)), limit)
    assert [int(n) for piece in pieces for n in piece] == list(range(len(lengths)))
    for piece in pieces:
        for side in (0, 1):
            assert len(piece) * max(lengths[n][side] for n in piece) <= limit
        batch = assemble(split, piece)
        for row, n in enumerate(piece):
            source, target = split.source[n].tolist(), split.target[n].tolist()
            assert [id_ for id_ in batch.source[row].tolist() if id_ != PAD] == source
            assert [id_ for id_ in batch.target_out[row].tolist() if id_ != PAD] == target
            assert batch.target_in[row].tolist()[: len(target)] == [BOS, *target[:-1]]


@given(LENGTHS, st.integers(400, 1200), st.integers(1, 4))
def test_packed_batches_divide_an_update_and_fit(lengths: list[tuple[int, int]], limit: int, ranks: int) -> None:
    pieces = packed_batches(split_of(lengths), [np.arange(len(lengths))], limit, ranks)
    assert [int(n) for piece in pieces for n in piece] == list(range(len(lengths)))
    for piece in pieces:
        assert all(sum(lengths[n][side] for n in piece) <= limit - 2 * 128 for side in (0, 1))


@given(st.integers(1, 500), st.integers(0, 4))
def test_the_length_penalty_is_its_formula(length: int, alpha: int) -> None:
    assert length_penalty(float(length), alpha) == pytest.approx(float(Fraction(5 + length, 6) ** alpha), rel=1e-12)
    assert float(torch.as_tensor(length_penalty(torch.tensor([length]), alpha))[0]) == pytest.approx(
        float(Fraction(5 + length, 6) ** alpha), rel=1e-6
    )


@given(st.floats(1, 500), st.floats(1, 500), st.floats(0, 5), st.floats(0, 5))
def test_the_length_penalty_favours_length_the_more_the_larger_alpha(a: float, b: float, x: float, y: float) -> None:
    (short, long), (small, large) = sorted((a, b)), sorted((x, y))
    assert length_penalty(1.0, large) == 1.0
    assert length_penalty(long, small) >= length_penalty(short, small)
    assert length_penalty(long, large) >= length_penalty(long, small)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from([(section, key) for section, keys in TINY_PARAMS.items() for key in keys])


@given(KEYS, ANYTHING)
def test_any_value_of_a_param_is_taken_as_it_is_or_refused_in_one_line(key: tuple[str, str], value: Any) -> None:
    section, name = key
    content = {**TINY_PARAMS, section: {**TINY_PARAMS[section], name: value}}
    try:
        params = params_from(content, "params.yaml")
    except ParamsError as error:
        check_told(error, "params.yaml: ")
    else:
        assert Params.model_validate(params.model_dump()) == params
        assert getattr(getattr(params, section), name) == value


@given(st.dictionaries(st.text(min_size=1, max_size=6), ANYTHING, max_size=3), ANYTHING)
def test_any_registry_is_read_or_refused_in_one_line(entries: dict[str, Any], local: Any) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpora.yaml"
        path.write_text(json.dumps({**entries, "mine": {"local": local}}))  # JSON is YAML
        try:
            load_corpora(path)
        except ParamsError as error:
            check_told(error, str(path))
