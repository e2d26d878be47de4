"""Nothing inside an update or a step of decoding asks the device for a value, which would let a GPU run dry."""

from pathlib import Path
from typing import Any

import pytest
import torch
from corpora import write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs
from torch.utils._python_dispatch import TorchDispatchMode
from trainings import prepared
from uneven_network import padded, sentences, settings, tiny_model

from transformer.decoding.greedy import greedy
from transformer.decoding.search import beam_search
from transformer.decoding.stepping import Steps
from transformer.params import TokenizationParams, params_from
from transformer.training.gradients import Weights
from transformer.training.objective import Network

aten = torch.ops.aten
ASKING = {aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.is_nonzero, aten._unique2}


class Waits(TorchDispatchMode):
    """Counts the operators whose result, or its size, the host has to know."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, operator: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        by_mask = operator.overloadpacket in (aten.index, aten.index_put, aten.index_put_) and any(
            index is not None and index.dtype == torch.bool for index in arguments[1]
        )
        self.count += by_mask or operator.overloadpacket in ASKING
        return operator(*arguments, **(keywords or {}))


def test_waits_are_seen() -> None:
    numbers = torch.arange(4)
    with Waits() as waits:
        assert int(numbers.sum()) == 6
        numbers[numbers > 1].sum()
        (numbers > 1).nonzero()
        bool((numbers == 1).all())
    assert waits.count == 4


@pytest.mark.parametrize("packed", [False, True])
def test_an_update_waits_for_nothing(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU computes it: a CPU has ways of its own, and nothing to wait for."""
    pairs = synthetic_pairs(90)
    splits = {"train": pairs[:60], "valid": pairs[60:75], "test": pairs[75:]}
    vocabulary = TokenizationParams(
        vocabulary_size=400, character_coverage=1.0, training_pairs=1000, model=None, new_pieces=0
    )
    model = {**TINY_PARAMS["model"], "dropout": 0.1}
    run = prepared(params_from({**TINY_PARAMS, "model": model}, "test"), write_tokens(tmp_path, splits, vocabulary))
    run.packed, run.grid = packed, False
    run.network, run.weights = Network(run.model, 0.1, run.precision, compiled=False), Weights(run.model)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    work = run.work([run.train_sentences[:20], run.train_sentences[20:40]])
    with Waits() as waits:
        loss = run.update(1, work)
        run.update(2, work)
    assert torch.isfinite(loss)
    assert waits.count == 0


def test_decoding_seldom_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_model(3), sentences(3, [1, 12, 3, 20, 5])
    expected = beam_search(model, padded(rows), settings(extra=20), nbest=2)
    with torch.no_grad():
        plain = greedy(model, padded(rows))
    monkeypatch.setattr("transformer.decoding.search.steps_between_waits", lambda device: 8)
    monkeypatch.setattr("transformer.decoding.greedy.steps_between_waits", lambda device: 8)
    steps = 0

    def counting(step: Any) -> Any:
        def counted(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            return step(*arguments)

        return counted

    monkeypatch.setattr(Steps, "advance", counting(Steps.advance))
    monkeypatch.setattr(model, "step", counting(model.step))
    with Waits() as waits:
        assert beam_search(model, padded(rows), settings(extra=20), nbest=2) == expected
    assert steps > 16
    assert waits.count <= 2 * (steps // 8 + 1) + 2
    steps = 0
    with Waits() as waits, torch.no_grad():
        assert greedy(model, padded(rows)) == plain
    assert steps > 8
    assert waits.count <= steps // 8
