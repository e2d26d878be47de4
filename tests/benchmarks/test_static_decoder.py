"""What CUDA graphs need, tensors of one size, changes no translation, here without the graphs."""

import numpy as np
import pytest
import torch

from benchmarks.static_decoder import StaticDecoder, StaticNetwork
from transformer.decoding.search import beam_search
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, ModelParams
from transformer.tokens.vocabulary import EOS, PAD

DECODING = DecodingParams(beam=3, alpha=0.6, max_extra_length=12, batch_tokens=1000)


@pytest.fixture(scope="module")
def model() -> Transformer:
    torch.manual_seed(5)
    shape = ModelParams(
        d_model=32, d_ff=64, heads=4, encoder_layers=2, decoder_layers=2,
        dropout=0.1, positions="sinusoidal", norm="pre", max_positions=64,
    )  # fmt: skip
    model = Transformer(shape, 90).eval()
    with torch.no_grad():
        model.embedding.weight.mul_(3)  # uneven distributions
    return model


def sources(lengths: list[int]) -> torch.Tensor:
    words = np.random.default_rng(3).integers(EOS + 1, 90, (len(lengths), max(lengths)))
    padded = torch.full((len(lengths), max(lengths)), PAD)
    for row, length in enumerate(lengths):
        padded[row, :length] = torch.from_numpy(words[row, :length])
        padded[row, length - 1] = EOS
    return padded


@torch.no_grad()
def test_a_step_of_fixed_size_is_the_step(model: Transformer) -> None:
    source = sources([9, 5, 12])
    static = StaticDecoder(model, 12, graphs=False)
    ours, theirs = static.start(source, 2), model.start(source, 2)
    shape = ours.past[0][0].shape
    tokens = torch.full((6,), 2)
    for _ in range(10):
        found, expected = static.step(tokens, ours), model.step(tokens, theirs)
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=1e-5)
        assert ours.past[0][0].shape == shape
        assert ours.position == theirs.position
        rows = torch.tensor([1, 0, 2, 2, 5, 4])
        ours, theirs = ours.select(rows), theirs.select(rows)
        tokens = expected.argmax(1)[rows]


def test_beam_search_finds_the_same_with_it(model: Transformer) -> None:
    source = sources([9, 5, 12, 3, 7, 11])
    network = StaticNetwork(StaticDecoder(model, DECODING.max_extra_length, graphs=False))
    found = beam_search(network, source, DECODING, nbest=2)
    expected = beam_search(model, source, DECODING, nbest=2)
    assert [[one.tokens for one in each] for each in found] == [[one.tokens for one in each] for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-5)
    assert len({tuple(each[0].tokens) for each in expected}) > 3
