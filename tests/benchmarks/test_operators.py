"""The ways of computing an operator that the benchmark compares give the same numbers."""

import numpy as np
import pytest
import torch
from tiny_inputs import TINY_PARAMS

from benchmarks.flex_packing import BLOCK, block_mask, flex_packed_attention
from benchmarks.operators import attention_ways, gradient_ways, measure, packed_spans, padded_places
from transformer.model.packing import Between, Spans, packed_attention
from transformer.params import Params, params_from

CPU = torch.device("cpu")


@pytest.fixture
def params() -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], "batch_target_tokens": 300}}, "test")


def test_the_ways_of_attention_agree(params: Params) -> None:
    ways = {name: way for name, way in attention_ways(params, CPU).items() if way}
    (expected, *others) = (way() for way in ways.values())
    assert len(others) == 2
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("crossed", [False, True])
def test_flex_attention_is_packed_attention(params: Params, causal: bool, crossed: bool) -> None:
    lengths, spans = packed_spans(params, CPU)
    others = spans
    if crossed:  # sources of other lengths, in a row of another length
        longer = np.minimum(lengths * 2 + 1, 250)
        longer[-1] += -longer.sum() % 128
        edges = np.append(0, longer.cumsum()).astype(np.int32)
        positions = np.concatenate([np.arange(length) for length in longer])
        others = Spans(torch.from_numpy(edges), torch.from_numpy(positions), 500)
        assert len(others.positions) > len(spans.positions)
    torch.manual_seed(2)
    query = torch.randn(1, 2, len(spans.positions), 16)
    key, value = torch.randn(2, 1, 2, len(others.positions), 16)
    between = Between(spans, others)
    expected = packed_attention(query, key, value, between, causal)
    torch.testing.assert_close(flex_packed_attention(query, key, value, between, causal), expected)
    # A GPU computes only what the blocks hold: no pair may be missing there. (Without torch.compile all is computed.)
    mask = block_mask(between, causal)
    zero, queries, keys = torch.tensor(0), *(torch.arange(len(side.positions)) for side in between)
    seen = mask.mask_mod(zero, zero, queries[:, None], keys[None])
    needed = seen.unflatten(0, (-1, BLOCK)).unflatten(2, (-1, BLOCK)).any(3).any(1)
    held = mask.to_dense()[0, 0].bool()
    assert len(held) > 1
    assert not (needed & ~held).any()
    if not causal:
        assert (needed == held).all()


def test_padded_places_hold_each_token_once(params: Params) -> None:
    lengths, _ = packed_spans(params, CPU)
    places = torch.cat([found.flatten() for found in padded_places(lengths, CPU)])
    assert sorted(places[places >= 0].tolist()) == list(range(lengths.sum()))


def test_the_ways_of_the_embeddings_gradient_agree(params: Params) -> None:
    one, other, product = gradient_ways(params, CPU).values()
    assert one
    assert other
    assert product is None
    torch.testing.assert_close(one(), other(), atol=1e-4, rtol=1e-5)


def test_every_way_is_timed_where_it_runs(params: Params) -> None:
    found = measure(params)
    assert [name for name, seconds in found.items() if seconds is None] == [
        "attention: flex, blocks of 128",
        "embedding's gradient: product with one-hot rows",
    ]
    assert all(seconds > 0 for seconds in found.values() if seconds is not None)
