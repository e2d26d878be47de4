"""The fused label-smoothed loss against torch's cross-entropy, and the schedule against the paper's formula."""

import pytest
import torch
import torch.nn.functional as F
from tiny_inputs import TINY_PARAMS

import transformer.training.objective as objective
from transformer.params import TrainingParams
from transformer.tokens.vocabulary import PAD
from transformer.training.objective import smoothed_cross_entropy
from transformer.training.schedule import learning_rate


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("chunk_logits", [1 << 30, 1000])
def test_loss_and_gradients_equal_torchs(
    smoothing: float, chunk_logits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(objective.CHUNK_LOGITS, "cpu", chunk_logits)
    torch.manual_seed(1)
    hidden = torch.randn(4, 17, 24, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(99, 24, dtype=torch.float64, requires_grad=True)
    target = torch.randint(1, 99, (4, 17))
    target[2, 9:] = PAD
    logits = (hidden @ weight.T).flatten(0, 1)
    torchs = F.cross_entropy(logits, target.flatten(), ignore_index=PAD, label_smoothing=smoothing, reduction="sum")
    ours = smoothed_cross_entropy(hidden, weight, target, smoothing, torch.float32)
    assert ours.item() == pytest.approx(torchs.item(), rel=1e-5)
    expected = torch.autograd.grad(torchs, (hidden, weight))
    for ours_gradient, torchs_gradient in zip(torch.autograd.grad(3 * ours, (hidden, weight)), expected, strict=True):
        torch.testing.assert_close(ours_gradient, 3 * torchs_gradient, atol=1e-4, rtol=1e-4, check_dtype=False)


def test_huge_logits_stay_finite() -> None:
    hidden, weight = torch.full((1, 2, 4), 1e4), torch.eye(4)[:3] * 1e4
    loss = smoothed_cross_entropy(hidden, weight, torch.tensor([[1, 2]]), 0.1, torch.float32)
    assert torch.isfinite(loss)


def test_bfloat16_products_stay_close() -> None:
    torch.manual_seed(2)
    hidden, weight, target = torch.randn(2, 50, 64), torch.randn(300, 64) / 8, torch.randint(1, 300, (2, 50))
    exact = smoothed_cross_entropy(hidden, weight, target, 0.1, torch.float32).item()
    assert smoothed_cross_entropy(hidden, weight, target, 0.1, torch.bfloat16).item() == pytest.approx(
        exact, rel=5e-3
    )


def rate(update: int, d_model: int, **changes: object) -> float:
    return learning_rate(update, d_model, TrainingParams.model_validate({**TINY_PARAMS["training"], **changes}))


def test_learning_rate_at_hand_computed_points() -> None:
    # 512^-0.5 = 0.0441942; 4000^-1.5 = 3.952847e-6; 4000^-0.5 = 0.0158114; 100000^-0.5 = 0.00316228
    assert rate(1, 512, warmup_updates=4000) == pytest.approx(1.746928e-07, rel=1e-6)
    assert rate(2000, 512, warmup_updates=4000) == pytest.approx(3.493856e-04, rel=1e-6)
    assert rate(4000, 512, warmup_updates=4000) == pytest.approx(6.987712e-04, rel=1e-6)
    assert rate(100_000, 512, warmup_updates=4000) == pytest.approx(1.397542e-04, rel=1e-6)
    assert rate(100, 1024, warmup_updates=16, learning_rate_scale=2.0) == pytest.approx(2 / 32 / 10)


def test_the_linear_schedule_falls_from_the_same_peak_to_zero() -> None:
    # peak 0.5 / 32 / sqrt(16) = 1 / 256 at update 16; then 84 more equal steps down, of which the last would be zero
    linear = {"schedule": "linear", "updates": 99, "warmup_updates": 16, "learning_rate_scale": 0.5}
    assert rate(8, 1024, **linear) == pytest.approx(1 / 512)
    assert rate(16, 1024, **linear) == pytest.approx(1 / 256)
    assert rate(58, 1024, **linear) == pytest.approx(1 / 512)
    assert rate(99, 1024, **linear) == pytest.approx(1 / 256 / 84)
