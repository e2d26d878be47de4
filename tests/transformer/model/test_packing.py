"""Packed batches hold what padded ones hold, give the same loss and gradients, and compile once."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo
from corpora import write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs
from torch.nn.attention import varlen
from trainings import prepared, trained

import transformer.training.objective as objective
from transformer.errors import ParamsError
from transformer.model.packing import Between, Packing, Spans, packed_attention
from transformer.model.transformer import Transformer
from transformer.params import ModelParams, Params, TokenizationParams, params_from
from transformer.tokens.vocabulary import BOS, EOS, PAD
from transformer.training.batching import PACKED_STEP, Update, pack, packed_batches
from transformer.training.objective import compilations
from transformer.training.run import Run
from transformer.training.train import Figures

VOCABULARY = TokenizationParams(
    vocabulary_size=400, character_coverage=1.0, training_pairs=10_000, model=None, new_pieces=0
)


def params(**training: Any) -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], **training}}, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pairs = synthetic_pairs(260)
    pairs[:20] = [(" ".join([source] * 3), " ".join([target] * 2)) for source, target in pairs[:20]]
    splits = {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}
    return write_tokens(tmp_path_factory.mktemp("packing"), splits, VOCABULARY)


@pytest.fixture
def run(tokens: Path) -> Run:
    return prepared(params(), tokens)


@pytest.fixture
def graphs_only(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile makes graphs and their gradients, but no machine code, which would take minutes."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    yield
    torch._dynamo.reset()


def test_a_packed_batch_by_hand(run: Run) -> None:
    chosen = run.train_sentences[[3, 50, 7]]
    batch = pack(run.train, chosen, 64)
    assert batch.packing is not None
    for row, side, spans in (
        (batch.source, run.train.source, batch.packing.source),
        (batch.target_out, run.train.target, batch.packing.target),
    ):
        sentences = [side[index].tolist() for index in chosen]
        flat = [word for sentence in sentences for word in sentence]
        width = row.shape[1]
        assert width % PACKED_STEP == 0
        assert width > len(flat)
        assert row[0].tolist() == flat + [PAD] * (width - len(flat))
        lengths = [*map(len, sentences), width - len(flat)]
        assert spans.offsets.diff().tolist() == lengths
        assert spans.positions[: len(flat)].tolist() == [place for length in lengths[:3] for place in range(length)]
        assert max(lengths) <= spans.longest
    begins = batch.packing.target.offsets[:3].tolist()
    ends = [int(begin) - 1 for begin in batch.packing.target.offsets[1:4]]
    assert batch.target_out[0, ends].tolist() == [EOS] * 3
    assert batch.target_in[0, begins].tolist() == [BOS] * 3
    inside = [place for place in range(ends[-1] + 1) if place not in begins]
    assert batch.target_in[0, inside].tolist() == [int(batch.target_out[0, place - 1]) for place in inside]
    assert batch.source.shape != batch.target_out.shape


@pytest.mark.parametrize("ranks", [1, 3, 8])
@pytest.mark.parametrize("limit", [320, 700, 100_000])
def test_pieces_hold_each_sentence_once_within_the_limit(run: Run, limit: int, ranks: int) -> None:
    update = [run.train_sentences[:90], run.train_sentences[90:]]
    pieces = packed_batches(run.train, update, limit, ranks)
    assert np.concatenate(pieces).tolist() == run.train_sentences.tolist()
    assert len(pieces) % ranks == 0 or limit == 320  # which leaves room for 64 tokens
    for piece in pieces:
        batch = pack(run.train, piece, 64)
        assert max(batch.source.numel(), batch.target_out.numel()) <= limit
    assert len(packed_batches(run.train, update, 100_000, ranks)) == ranks


def test_pieces_are_of_like_size(run: Run) -> None:
    sides = run.train.source.lengths, run.train.target.lengths
    pieces = packed_batches(run.train, [run.train_sentences], 100_000, 4)
    sizes = [sum(int(side[piece].sum()) for side in sides) for piece in pieces]
    assert max(sizes) - min(sizes) <= 2 * int((sides[0] + sides[1]).max())


def test_few_sentences_make_few_pieces(run: Run) -> None:
    pieces = packed_batches(run.train, [run.train_sentences[:3]], 100_000, 8)
    assert [len(piece) for piece in pieces] == [1, 1, 1]


def test_a_sentence_over_the_limit_is_named(run: Run) -> None:
    with pytest.raises(ParamsError, match=r"training\.micro_batch_tokens = 260: a sentence has \d+ tokens, and"):
        packed_batches(run.train, [run.train_sentences], 260, 1)


def test_packing_changes_neither_loss_nor_gradients(run: Run) -> None:
    groups: Update = [run.train_sentences[:40], run.train_sentences[40:90]]
    found = []
    for packed in False, True:
        run.packed = packed
        work = run.work(groups)
        batches = [batch for _, batch in work.batches]
        total = run.ranks.backward(
            run.weights, lambda place, batches=batches: run.network.loss(batches[place]), len(batches), 1
        )
        found.append((total, [parameter.grad for parameter in run.model.parameters()], work))
    (padded, padded_gradients, _), (packed_loss, packed_gradients, work) = found
    assert work.tokens == sum(len(run.train.target[index]) for group in groups for index in group)
    torch.testing.assert_close(packed_loss, padded, rtol=1e-5, atol=1e-4)
    for ours, theirs in zip(packed_gradients, padded_gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.usefixtures("graphs_only")
def test_nothing_is_compiled_again_after_the_first_update(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Updates of many sizes, the objective in chunks of two sizes, validation between: all in the first graphs."""
    monkeypatch.setitem(objective.CHUNK_LOGITS, "cpu", 100 * 400)
    torch._dynamo.utils.counters.clear()
    asked = {"micro_batch_tokens": 100_000}
    plain, run = prepared(params(**asked), tokens), prepared(params(**asked, compile=True), tokens)
    assert run.packed
    assert not plain.packed
    made = []
    sizes = set()
    for update, size in enumerate((40, 7, 90, 23, 150, 64, 3), 1):
        groups = [run.train_sentences[:size]]
        work = run.work(groups)
        sizes |= {(batch.source.shape[1], batch.target_out.shape[1]) for _, batch in work.batches}
        ours, theirs = run.update(update, work), plain.update(update, plain.work(groups))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
        made.append(compilations())
        run.validate()
    assert len(sizes) > 3
    assert made[0] > 0
    assert made == made[:1] * len(made)


@pytest.mark.usefixtures("graphs_only")
def test_a_compiled_run_logs_its_compilations(tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture) -> None:
    records: list[Figures] = []
    model = {**TINY_PARAMS["model"], "dropout": 0.1}
    training = {**TINY_PARAMS["training"], "compile": True, "updates": 15}
    asked = params_from({**TINY_PARAMS, "model": model, "training": training}, "test")
    trained(tmp_path, tokens, asked, records.append)
    losses = [record.metrics["train/loss"] for record in records if "train/loss" in record.metrics]
    assert losses[-1] < losses[0]
    logged = [record.metrics["train/compilations"] for record in records if "train/compilations" in record.metrics]
    assert len(logged) == 3
    assert logged[0] == logged[-1] > 0
    assert "compiled again" not in caplog.text


def test_the_flash_kernel_is_called_as_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    """On tensors without numbers, whose shapes the real operator and its backward pass check and pass on."""
    shape = ModelParams(
        d_model=64, d_ff=128, heads=4, encoder_layers=1, decoder_layers=1,
        dropout=0.1, positions="sinusoidal", norm="post", max_positions=64,
    )  # fmt: skip
    called = []

    def called_with(*arguments: Any, **keywords: Any) -> Any:
        called.append((arguments, keywords))
        return kernel(*arguments, **keywords)

    kernel = varlen.varlen_attn
    monkeypatch.setattr(varlen, "varlen_attn", called_with)
    with torch.device("meta"):
        model = Transformer(shape, 400).bfloat16()
        packing = Packing(*(spans(width, sentences=5) for width in (256, 384)))
        source, target = (torch.zeros(1, width, dtype=torch.int64) for width in (256, 384))
        hidden = model.hidden(source, target, packing)
        gradients = torch.autograd.grad(hidden.float().sum(), list(model.parameters()))
    assert hidden.shape == (1, 384, 64)
    assert [gradient.shape for gradient in gradients] == [weight.shape for weight in model.parameters()]
    assert [(arguments[0].shape, arguments[1].shape) for arguments, _ in called] == [
        ((256, 4, 16), (256, 4, 16)),
        ((384, 4, 16), (384, 4, 16)),
        ((384, 4, 16), (256, 4, 16)),
    ]
    assert [keywords["window_size"] for _, keywords in called] == [(-1, -1), (-1, 0), (-1, -1)]


def spans(width: int, sentences: int) -> Spans:
    return Spans(torch.zeros(sentences + 1, dtype=torch.int32), torch.zeros(width, dtype=torch.int64), 256)


@pytest.mark.parametrize("causal", [False, True])
def test_packed_attention_is_attention_of_each_sentence_alone(run: Run, causal: bool) -> None:
    packing = pack(run.train, run.train_sentences[:5], 64).packing
    assert packing is not None
    keys = packing.target if causal else packing.source
    torch.manual_seed(1)
    query = torch.randn(1, 2, len(packing.target.positions), 8)
    key, value = torch.randn(2, 1, 2, len(keys.positions), 8)
    found = packed_attention(query, key, value, Between(packing.target, keys), causal)
    for sentence in range(5):
        ours = slice(*packing.target.offsets[sentence : sentence + 2].tolist())
        theirs = slice(*keys.offsets[sentence : sentence + 2].tolist())
        scores = query[0, :, ours] @ key[0, :, theirs].transpose(1, 2) / 8**0.5
        if causal:
            scores += torch.full(scores.shape[1:], -torch.inf).triu(1)
        torch.testing.assert_close(found[0, :, ours], scores.softmax(-1) @ value[0, :, theirs])


def test_compiling_where_no_flash_kernel_is_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer.training.run.select_device", lambda name: torch.device("mps"))
    asked = params(compile=True, precision="fp32")
    with pytest.raises(ParamsError, match=r"training\.compile: true needs a GPU"):
        Run.start(asked.model, asked.training, asked.compute, run.vocabulary, run.train, run.valid)


def test_a_compiler_that_does_not_work_is_named(tokens: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without_compiler(graph: Any, inputs: Any) -> Any:
        raise FileNotFoundError("gcc")

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=without_compiler))
    run = prepared(params(compile=True, micro_batch_tokens=1000), tokens)
    with pytest.raises(
        ParamsError, match=r"torch\.compile failed, set training\.compile: false to train without it: .*gcc"
    ):
        run.update(1, run.work([run.train_sentences[:5]]))
    torch._dynamo.reset()
