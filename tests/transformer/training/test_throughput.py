"""Operations of an update by hand and by torch's own counter; the background loader; what is logged of both."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_inputs import TINY_PARAMS
from torch.utils.flop_counter import FlopCounterMode
from trainings import prepared, tiny_tokens, trained

from transformer.errors import DivergedError, ParamsError
from transformer.model.transformer import Transformer
from transformer.params import ModelParams, params_from
from transformer.training.batching import Update
from transformer.training.loader import Loader
from transformer.training.run import Run, Work
from transformer.training.throughput import Meter, named_peak, peak_flops, training_flops
from transformer.training.train import Figures


def shape(d_model: int, d_ff: int, heads: int, layers: int) -> ModelParams:
    return ModelParams(
        d_model=d_model, d_ff=d_ff, heads=heads, encoder_layers=layers, decoder_layers=layers,
        dropout=0.1, positions="sinusoidal", norm="post", max_positions=128,
    )  # fmt: skip


def test_the_operations_of_the_papers_base_model_by_hand() -> None:
    """One pair of 10 and 20 tokens, 37000 pieces; products of 512 x 512 are 2 x 262144 operations a token."""
    encoder = 10 * (4 * 524_288 + 2 * 2 * 512 * 2048) + 2 * 2 * 10 * 10 * 512
    decoder = (
        20 * (4 * 524_288 + 2 * 524_288 + 2 * 2 * 512 * 2048)
        + 10 * 2 * 524_288
        + 2 * 2 * 512 * (20 * 21 // 2 + 20 * 10)
    )
    assert encoder == 63_119_360
    assert decoder == 158_126_080
    expected = 3 * (6 * (encoder + decoder) + 2 * 20 * 512 * 37_000)
    assert training_flops(shape(512, 2048, 8, 6), 37_000, np.array([10]), np.array([20])) == expected
    twice = training_flops(shape(512, 2048, 8, 6), 37_000, np.array([10, 10]), np.array([20, 20]))
    assert twice == 2 * expected


@pytest.mark.parametrize(("sources", "targets", "key_size"), [(7, 13, None), (32, 5, None), (7, 13, 3)])
def test_the_operations_are_those_that_torch_counts(sources: int, targets: int, key_size: int | None) -> None:
    """torch counts all of the masked square of the decoder's self-attention, of which we count the seen half."""
    asked = shape(32, 80, 4, 3).model_copy(update={"key_size": key_size})
    with torch.device("meta"):
        model = Transformer(asked, 100)
        source, target = (torch.zeros(1, length, dtype=torch.int64) for length in (sources, targets))
        with FlopCounterMode(display=False) as counter:
            model(source, target).sum().backward()
    unseen = targets * targets - targets * (targets + 1) // 2
    ours = training_flops(asked, 100, np.array([sources]), np.array([targets]))
    counted = counter.get_total_flops() - 3 * asked.decoder_layers * 2 * (4 * (key_size or 8) + 32) * unseen
    assert ours == pytest.approx(counted, rel=1e-12)


def test_peaks_go_by_the_whole_name() -> None:
    assert named_peak("NVIDIA H100 80GB HBM3") == 989.4e12
    assert named_peak("NVIDIA A100-SXM4-80GB") == 312e12
    assert named_peak("NVIDIA A10") == 125e12
    assert named_peak("NVIDIA L40S") == 362e12
    assert named_peak("NVIDIA L40") is None
    assert named_peak("Tesla V100-SXM2-16GB") is None
    assert peak_flops(torch.device("cpu"), torch.bfloat16) is None


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("throughput"))


@pytest.fixture
def run(tokens: Path) -> Run:
    return prepared(params_from(TINY_PARAMS, "test"), tokens)


def test_the_loader_gives_every_epochs_plan_in_order_from_any_place(run: Run) -> None:
    plans = [run.plan(epoch) for epoch in range(3)]
    expected = [(epoch, place, groups) for epoch, plan in enumerate(plans) for place, groups in enumerate(plan)]
    first = len(plans[0]) - 2
    with Loader(run, 0, first) as loader:
        before = 0, first
        for epoch, place, groups in expected[first:]:
            assert before == (epoch, place)
            planned, work = loader.next()
            before = planned.epoch, planned.position
            assert [group.tolist() for group in work.groups] == [group.tolist() for group in groups]
            assert [batch.source.tolist() for _, batch in work.batches] == [
                batch.source.tolist() for _, batch in run.work(groups).batches
            ]
    assert before == (3, 0)


def test_what_fails_in_the_background_is_raised_in_front(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: Run, groups: Update) -> Work:
        raise ParamsError("no such update")

    monkeypatch.setattr(Run, "work", failing)
    with Loader(run, 0, 0) as loader, pytest.raises(ParamsError, match="no such update"):
        loader.next()


def test_waiting_for_slow_data_is_counted(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    work = Run.work

    def slow(self: Run, groups: Update) -> Work:
        time.sleep(0.1)
        return work(self, groups)

    monkeypatch.setattr(Run, "work", slow)
    with Loader(run, 0, 0) as loader:
        loader.next()
        assert loader.waited >= 0.05


def test_the_meter_by_hand(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer.training.throughput.peak_flops", lambda device, precision: 5e12)
    meter = Meter(run.device, run.precision, 1, compiled=False, seconds=100.0)
    for _ in range(4):
        meter.count(tokens=50, flops=10**12)
    assert meter.read(102.0, waited=0.5) == {
        "target_tokens_per_second": 100.0,
        "seconds_per_update": 0.5,
        "model_teraflops_per_second": 2.0,
        "data_wait_share": 0.25,
        "model_flops_utilization": 0.4,
    }
    meter.count(tokens=30, flops=10**12)
    assert meter.read(103.0, waited=0.5)["target_tokens_per_second"] == 30.0


def test_training_records_the_figures(tmp_path: Path, tokens: Path) -> None:
    records: list[Figures] = []
    training, averaging = {**TINY_PARAMS["training"], "updates": 10}, {**TINY_PARAMS["averaging"], "count": 1}
    asked = params_from({**TINY_PARAMS, "training": training, "averaging": averaging}, "test")
    trained(tmp_path, tokens, asked, records.append)
    logged = next(record.metrics for record in records if "train/loss" in record.metrics)
    assert logged["train/model_teraflops_per_second"] > 0
    assert 0 <= logged["train/data_wait_share"] < 1
    assert "train/model_flops_utilization" not in logged  # a CPU's peak is not known


def test_a_divergence_inside_an_interval_names_its_own_update(
    tmp_path: Path, tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses are read at update 5; that of update 3 was the first that is no number."""
    update = Run.update
    groups: list[Update] = []

    def spoilt(self: Run, number: int, work: Work) -> torch.Tensor:
        groups.append(work.groups)
        loss = update(self, number, work)
        return loss * torch.nan if number >= 3 else loss

    monkeypatch.setattr(Run, "update", spoilt)
    with pytest.raises(DivergedError, match=r"the loss became nan at update 3 \(rows (.*) of") as raised:
        trained(tmp_path, tokens, params_from(TINY_PARAMS, "test"))
    rows = sorted(np.concatenate(groups[2]).tolist())
    assert f"(rows {', '.join(map(str, rows[:20]))}" in str(raised.value)
    assert len(groups) == 5
    assert not list((tmp_path / "work").rglob("*.safetensors"))
