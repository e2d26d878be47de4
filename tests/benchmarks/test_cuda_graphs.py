"""What CUDA graphs need, tensors of few sizes, changes no result: training and decoding, here without the graphs."""

import numpy as np
import pytest
import torch
from corpora import write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs
from trainings import prepared

from benchmarks.few_sizes import ROW_STEP, SENTENCE_STEP, widened
from benchmarks.static_decoder import StaticDecoder
from transformer.decoding.search import beam_search
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, ModelParams, TokenizationParams, params_from
from transformer.tokens.vocabulary import EOS, PAD
from transformer.training.batching import pack
from transformer.training.run import Run

DECODING = DecodingParams(beam=3, alpha=0.6, max_extra_length=12, batch_tokens=1000)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    pairs = synthetic_pairs(160)
    splits = {"train": pairs[:120], "valid": pairs[120:140], "test": pairs[140:]}
    vocabulary = TokenizationParams(vocabulary_size=400, character_coverage=1.0, training_pairs=10_000)
    params = params_from({**TINY_PARAMS, "model": {**TINY_PARAMS["model"], "dropout": 0.0}}, "test")
    return prepared(params, write_tokens(tmp_path_factory.mktemp("graphs"), splits, vocabulary))


@pytest.mark.parametrize("sentences", [2, 60, 120])
def test_a_batch_in_the_next_of_few_sizes_has_the_same_loss_and_gradients(run: Run, sentences: int) -> None:
    batch = pack(run.train, run.train_sentences[:sentences], 64)
    wide = widened(batch)
    assert batch.packing is not None
    assert wide.packing is not None
    assert {row.shape[1] % ROW_STEP for row in (wide.source, wide.target_in, wide.target_out)} == {0}
    assert wide.source.shape != wide.target_in.shape
    for before, after, row in zip(batch.packing, wide.packing, (wide.source, wide.target_in), strict=True):
        lengths = after.offsets.diff()
        assert (len(lengths) % SENTENCE_STEP, int(after.offsets[-1])) == (0, row.shape[1])
        assert lengths[:sentences].tolist() == before.offsets.diff()[:sentences].tolist()
        assert 0 <= lengths.min() <= lengths.max() <= after.longest
        assert len(after.positions) == row.shape[1]
    # Where one side has no tokens the other has none: a query without keys has no attention.
    empty = [(side.offsets.diff() == 0).tolist() for side in wide.packing]
    assert empty[0] == empty[1]
    weights = list(run.model.parameters())
    losses = [run.network.loss(one) for one in (batch, wide)]
    torch.testing.assert_close(*losses, rtol=1e-6, atol=1e-5)
    gradients = [torch.autograd.grad(loss, weights) for loss in losses]
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_batches_of_like_size_become_one_size(run: Run) -> None:
    shapes = {
        (wide.source.shape, wide.target_in.shape, wide.packing and wide.packing.source.offsets.shape)
        for wide in (widened(pack(run.train, run.train_sentences[:count], 64)) for count in range(80, 120, 5))
    }
    assert len(shapes) == 1


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
    found = beam_search(StaticDecoder(model, DECODING.max_extra_length, graphs=False), source, DECODING, nbest=2)
    expected = beam_search(model, source, DECODING, nbest=2)
    assert [[one.tokens for one in each] for each in found] == [[one.tokens for one in each] for each in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert [one.score for one in ours] == pytest.approx([one.score for one in theirs], abs=1e-5)
    assert len({tuple(each[0].tokens) for each in expected}) > 3
