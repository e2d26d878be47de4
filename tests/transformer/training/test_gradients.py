"""The copies of the weights that a CPU computes with: their gradients are those of the weights, which they follow."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_inputs import TINY_PARAMS
from trainings import prepared, tiny_tokens

from transformer.model.layers import Dropout, seed_dropout
from transformer.params import Params, params_from
from transformer.training.batching import assemble, lay_out
from transformer.training.gradients import Copies
from transformer.training.objective import smoothed_cross_entropy
from transformer.training.run import Run

SENTENCES = slice(0, 60)


def params(model: dict[str, Any], **training: Any) -> Params:
    changed = {"model": {**TINY_PARAMS["model"], **model}, "training": {**TINY_PARAMS["training"], **training}}
    return params_from({**TINY_PARAMS, **changed}, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("gradients"))


def gradients(run: Run) -> dict[str, torch.Tensor]:
    """Of an update of two groups, as the optimizer would see them."""
    work = run.work([run.train_sentences[:23], run.train_sentences[23:60]])
    run.ranks.backward(
        run.weights, lambda place: run.network.loss(work.batches[place][1]), len(work.batches), work.tokens
    )
    found = {name: one.grad for name, one in run.model.named_parameters()}
    return {name: one.clone() for name, one in found.items() if one is not None}


@pytest.mark.parametrize("model", [{"norm": "pre"}, {"norm": "post"}, {"positions": "learned", "key_size": 4}])
def test_they_are_those_of_autograd_on_a_padded_batch(tokens: Path, model: dict[str, Any]) -> None:
    run = prepared(params({**model, "dropout": 0.0}, precision="fp32"), tokens)
    assert isinstance(run.weights, Copies)
    found = gradients(run)
    batch = assemble(run.train, run.train_sentences[SENTENCES])
    loss = smoothed_cross_entropy(
        run.model.hidden(batch.source, batch.target_in),
        run.model.embedding.weight,
        batch.target_out,
        0.1,
        torch.float32,
    )
    counted = int((batch.target_out != 0).sum())
    expected = torch.autograd.grad(loss / counted, list(run.model.parameters()))
    assert len(found) == len(expected)
    for (name, gradient), right in zip(found.items(), expected, strict=True):
        assert right.abs().max() > 0, name
        torch.testing.assert_close(gradient, right, atol=1e-6, rtol=1e-3)


def test_in_bfloat16_they_stay_close_and_are_summed_in_float32(tokens: Path) -> None:
    exact, rounded = (
        gradients(prepared(params({"dropout": 0.0}, precision=precision), tokens)) for precision in ("fp32", "bf16")
    )
    for name, gradient in rounded.items():
        assert gradient.dtype == torch.float32
        cosine = torch.cosine_similarity(gradient.flatten(), exact[name].flatten(), dim=0)
        assert cosine > 0.99, name


def test_the_copies_follow_the_weights(tokens: Path) -> None:
    run = prepared(params({"dropout": 0.0}, precision="bf16"), tokens)
    assert isinstance(run.weights, Copies)
    with torch.no_grad():
        for parameter in run.model.parameters():
            parameter.add_(0.25)
    run.weights.refresh()
    for copied, parameter in zip(run.weights.network.parameters(), run.model.parameters(), strict=True):
        assert copied.data_ptr() == parameter.data_ptr() or torch.equal(copied, parameter.bfloat16())
    assert torch.equal(run.weights.projection, run.model.embedding.weight.bfloat16())


def test_the_same_bits_with_any_number_of_threads(tokens: Path) -> None:
    found = []
    for threads in 1, 2, 3:
        asked = params({"dropout": 0.1}, precision="bf16")
        run = prepared(
            asked.model_copy(update={"compute": asked.compute.model_copy(update={"threads": threads})}), tokens
        )
        losses = [run.update(n, run.work([run.train_sentences[:30], run.train_sentences[30:50]])) for n in (1, 2, 3)]
        found.append([*(float(loss) for loss in losses), *(one.sum().item() for one in run.model.parameters())])
    assert found[0] == found[1] == found[2]


def test_dropout_keeps_its_share_and_its_mean() -> None:
    dropout, x, y = Dropout(0.3), torch.zeros(1, 400, 500), torch.ones(1, 400, 500, dtype=torch.bfloat16)
    seed_dropout(7, torch.device("cpu"))
    added = dropout.added(x, y)
    assert float(added.mean()) == pytest.approx(1.0, abs=0.005)
    assert float((added == 0).float().mean()) == pytest.approx(0.3, abs=0.005)
    assert np.unique(added.numpy()).tolist() == [0.0, pytest.approx(1 / 0.7, rel=1e-6)]


def test_a_laid_out_batch_holds_what_the_padded_one_holds(tokens: Path) -> None:
    run = prepared(params({}), tokens)
    chosen = run.train_sentences[[3, 9, 27]]
    padded, row = assemble(run.train, chosen), lay_out(run.train, chosen)
    for name in ("source", "target_in", "target_out"):
        inside = getattr(padded, name).flatten().tolist()
        found = getattr(row, name)[0].tolist()
        assert found == inside + [0] * (len(found) - len(inside)), name
