"""The ways of computing an operator that the benchmark compares give the same numbers."""

import pytest
import torch
from tiny_inputs import TINY_PARAMS

from benchmarks.operators import attention_ways, gradient_ways, measure, packed_spans, padded_places
from transformer.params import Params, params_from

CPU = torch.device("cpu")


@pytest.fixture
def params() -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], "batch_target_tokens": 300}}, "test")


def test_the_ways_of_attention_agree(params: Params) -> None:
    (expected, *others) = (way() for way in attention_ways(params, CPU).values())
    assert len(others) == 2
    for found in others:
        for ours, theirs in zip(found, expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


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
        "embedding's gradient: product with one-hot rows",
    ]
    assert all(seconds > 0 for seconds in found.values() if seconds is not None)
