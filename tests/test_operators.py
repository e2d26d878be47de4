"""The ways of computing an operator that the benchmark compares give the same numbers."""

import numpy as np
import pytest
import torch
from conftest import TINY_PARAMS

from benchmarks.operators import attention_ways, document_mask, gradient_ways, measure, packed_spans, padded_places
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


def test_flex_attention_sees_the_blocks_that_hold_a_sentence(params: Params) -> None:
    lengths, spans = packed_spans(params, CPU)
    mask = document_mask(spans)
    sentence = np.repeat(np.arange(len(lengths)), lengths)
    seen = (sentence[:, None] == sentence) & np.tri(len(sentence), dtype=bool)
    blocks = seen.reshape(len(seen) // 128, 128, -1, 128).any(axis=(1, 3))
    assert len(blocks) > 1
    assert mask.to_dense()[0, 0].bool().tolist() == blocks.tolist()
    places = torch.arange(len(sentence))
    inside = mask.mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places[None])
    assert inside.tolist() == seen.tolist()


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
