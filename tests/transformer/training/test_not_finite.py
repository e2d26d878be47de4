"""What is no number any more stops a training before it is saved, and reaches neither a file nor a model."""

import json
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_inputs import TINY_PARAMS
from trainings import prepared, tiny_tokens, trained

from transformer.errors import DataError, DivergedError, ParamsError
from transformer.files import files_below, write_json
from transformer.model.checkpoints import read_weights, write_tensors
from transformer.params import Params, params_from
from transformer.training import validation
from transformer.training.run import Run, Work
from transformer.training.validation import Validation


def params(**training: object) -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], **training}}, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("tokens"))


def weight(run: Run) -> None:
    next(iter(run.model.parameters())).data.view(-1)[5] = math.nan


def moment(run: Run) -> None:
    next(iter(run.optimizer.state.values()))["exp_avg_sq"].view(-1)[5] = math.inf


@pytest.mark.parametrize("spoil", [weight, moment])
@pytest.mark.parametrize("at", [10, 23])
def test_weights_and_moments_are_checked_at_every_checkpoint(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, spoil: Callable[[Run], None], at: int
) -> None:
    """They spoil nothing that is shown before: the loss of this update is fine, and log intervals are long."""
    update = Run.update

    def spoiled(run: Run, number: int, work: Work) -> torch.Tensor:
        loss = update(run, number, work)
        if number == at:
            spoil(run)
        return loss if number <= at else torch.tensor(1.0)

    monkeypatch.setattr(Run, "update", spoiled)
    with pytest.raises(DivergedError, match=r"embedding\.weight holds NaN or infinity after update (10|30): lower"):
        trained(tmp_path, tokens, params(log_every=40, validate_every=40))
    saved = [json.loads(path.read_text())["update"] for path in (tmp_path / "work").glob("*/progress.json")]
    assert saved == ([] if at == 10 else [20])
    for path in files_below(tmp_path / "work"):
        if path.suffix == ".safetensors" and path.name != "update-00000010.safetensors":
            assert all(torch.isfinite(one).all() for one in read_weights(path).values()), path


def test_a_validation_loss_that_is_no_number_stops(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run, "validate", lambda run: Validation(math.nan, None))
    with pytest.raises(DivergedError, match="the validation loss became nan at update 20: lower"):
        trained(tmp_path, tokens, params())


def test_a_huge_loss_is_shown_in_a_few_digits(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(Run, "validate", lambda run: Validation(1e30, None))
    update = Run.update
    monkeypatch.setattr(Run, "update", lambda run, number, work: update(run, number, work) * 0 + 1e30)
    trained(tmp_path, tokens, params())
    assert "loss 1e+30  perplexity 1.01e+304" in caplog.text
    assert not re.search(r"\d{12}", caplog.text.replace(str(tmp_path), ""))


def test_json_holds_no_number_that_json_does_not_know(tmp_path: Path) -> None:
    for value in (math.nan, math.inf, [{"a": -math.inf}]):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(tmp_path / "value.json", value)
    assert not list(tmp_path.iterdir())


def test_weights_that_are_no_numbers_are_not_read(tmp_path: Path) -> None:
    write_tensors(tmp_path / "one.safetensors", {"a": torch.ones(3), "b": torch.tensor([1.0, math.inf])})
    with pytest.raises(DataError, match=r"one\.safetensors: b holds NaN or infinity"):
        read_weights(tmp_path / "one.safetensors")


def test_a_sentence_that_fits_no_micro_batch_is_told_before_the_first_update(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where params alone can't tell: what a device holds, and what packing takes."""
    told = r"training\.micro_batch_tokens leaves room for {} tokens of a sentence, but row (\d+) of data/corpus/train"
    with pytest.raises(ParamsError, match=told.format(4)):
        prepared(params(micro_batch_tokens=260, compile=True), tokens)
    monkeypatch.setattr("transformer.training.memory.PLAIN_TOKENS", 10)
    with pytest.raises(ParamsError, match=told.format(10)) as caught:
        prepared(params(micro_batch_tokens=None), tokens)
    monkeypatch.undo()
    run = prepared(params(), tokens)
    row = int(re.search(r"row (\d+)", str(caught.value))[1])  # type: ignore[index]
    longest = max(len(run.train.source[row]), len(run.train.target[row]))
    assert longest == max(max(len(side[at]) for side in (run.train.source, run.train.target)) for at in range(200))
    assert str(caught.value).count(f"has {longest}: raise it")


def test_greedy_decoding_takes_sentences_longer_than_its_batches(
    tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = prepared(params(), tokens)
    run.model.eval()
    arguments = (run.model, run.vocabulary, run.valid, run.valid_sentences, "13a")
    whole = validation.greedy_bleu(*arguments)
    monkeypatch.setattr(validation, "GREEDY_TOKENS", 2)
    assert validation.greedy_bleu(*arguments) == pytest.approx(whole)
