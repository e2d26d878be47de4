"""The network as a GPU trains it, packed and compiled, beside the plain one: losses, gradients, bytes, graphs."""

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from on_device import DEVICE, ON_GPU, TOLERANCES, distance, params, run_of
from torch import Tensor

from benchmarks.gpu.setting import DEFAULT_PRESET, bundled
from transformer.model.layers import seed_dropout
from transformer.model.transformer import Transformer
from transformer.training.objective import Network, compilations
from transformer.training.run import Run

pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """torch.compile from scratch; on a CPU it makes graphs, but no machine code, which takes minutes."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    if not ON_GPU:
        monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    yield
    torch._dynamo.reset()
    torch.set_float32_matmul_precision("highest")


Found = tuple[Tensor, list[Tensor]]  # a loss and its gradients


def loss_and_gradients(run: Run, seed: int = 1) -> Found:
    """Of all sentences in one update, the loss per token."""
    run.model.train()
    work = run.work([run.train_sentences])

    def loss(place: int) -> Tensor:
        seed_dropout(seed + place, run.device)
        return run.network.loss(work.batches[place][1].to(run.device))

    total = run.ranks.backward(run.weights, loss, len(work.batches), work.tokens)
    gradients = [parameter.grad for parameter in run.model.parameters()]
    run.optimizer.zero_grad()
    return total / work.tokens, [gradient for gradient in gradients if gradient is not None]


def fastest(precision: str, model: dict[str, float]) -> Run:
    """As a GPU trains: compiled; packed, unless on a GPU in float32, for which flash attention is not made."""
    packs = not ON_GPU or precision == "bf16"
    run = run_of(params(model, precision=precision, compile=packs))
    if not packs:
        run.network = Network(run.model, run.settings.label_smoothing, run.precision, compiled=True)
    assert run.packed == packs
    return run


def assert_as_close(
    model: Transformer, ours: Found, truth: Found, plain_gradients: list[Tensor], precision: str
) -> None:
    """The loss and each gradient lie within tolerance of the truth, a gradient hardly farther than the plain one."""
    of_loss, of_gradient = TOLERANCES[precision]
    assert distance(ours[0], truth[0]) <= of_loss
    too_far = {}
    for (name, _), found, plain, true in zip(
        model.named_parameters(), ours[1], plain_gradients, truth[1], strict=True
    ):
        far, plain_far = distance(found, true), distance(plain, true)
        if not far <= min(of_gradient, max(2 * plain_far, of_gradient / 4)):
            too_far[name] = far, plain_far
    assert too_far == {}


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("head_size", [32, 64, 128])
def test_packed_and_compiled_computes_what_padded_and_plain_does(head_size: int, precision: str) -> None:
    """In bfloat16 it is also hardly farther from the truth, the plain network in float32, than the plain one is."""
    shape = {"d_model": 2 * head_size, "d_ff": 4 * head_size}
    truth, plain = (run_of(params(shape, precision=one, compile=False)) for one in ("fp32", precision))
    fast = fastest(precision, shape)
    torch.set_float32_matmul_precision("highest")  # without TF32
    (expected, gradients), (_, plain_gradients), (loss, found) = map(loss_and_gradients, (truth, plain, fast))
    assert_as_close(truth.model, (loss, found), (expected, gradients), plain_gradients, precision)


def test_with_dropout_the_gradient_is_that_of_the_same_masks() -> None:
    """The loss of a seed is a function of the weights: a step along the gradient changes it by the step times the
    gradient's length. Were other numbers dropped in the backward pass, it would change by far less."""
    run = fastest("bf16", {"dropout": 0.5})
    _, gradients = loss_and_gradients(run)
    length = torch.stack([gradient.double().square().sum() for gradient in gradients]).sum().sqrt().item()
    step = 0.1 / length  # in the direction of the gradient: the loss moves by 0.1 each way
    weights = list(run.model.parameters())
    losses = []
    for sign in 1, -1:
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight += sign * step / length * gradient
        losses.append(loss_and_gradients(run)[0].item())
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= sign * step / length * gradient
    print(f"the loss changed by {losses[0] - losses[1]:.4f}, expected {2 * step * length:.4f}")
    assert losses[0] - losses[1] == pytest.approx(2 * step * length, rel=0.1)


def test_dropout_follows_the_seed_and_has_the_plain_networks_mean() -> None:
    """Compiled code draws its own numbers: losses of many seeds have to be distributed as the plain network's."""
    model = {"dropout": 0.3}
    fast, plain = fastest("bf16", model), run_of(params(model, precision="fp32", compile=False))
    first, gradients = loss_and_gradients(fast)
    again, same = loss_and_gradients(fast)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(gradients, same, strict=True))
    samples = [
        torch.stack([loss_and_gradients(run, seed)[0].detach() for seed in range(30)]).double().cpu()
        for run in (fast, plain)
    ]
    assert len(samples[0].unique()) == 30
    means, variances = [one.mean() for one in samples], [one.var() for one in samples]
    error = float((sum(variances) / 30).sqrt())
    assert abs(float(means[0] - means[1])) <= 4 * error + TOLERANCES["bf16"][0] * float(means[1])
    assert 0.3 < float(variances[0] / variances[1]) < 3


def test_two_runs_give_the_same_bytes() -> None:
    states = []
    for _ in range(2):
        torch._dynamo.reset()
        run = run_of(params({"dropout": 0.2}, compile=None if ON_GPU else True, precision="bf16"))
        losses = [run.update(update, run.work([run.train_sentences[update % 5 :]])) for update in range(1, 11)]
        moments = [value for state in run.optimizer.state.values() for value in state.values()]
        states.append([*losses, *run.model.parameters(), *moments])
    assert len(states[0]) > 50
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def test_nothing_is_compiled_again_over_an_epoch_of_real_lengths() -> None:
    """The default preset's tokens and update, one of the small networks; on a CPU the epoch's first updates."""
    asked = params({"dropout": 0.1}, batch_target_tokens=1024, compile=None if ON_GPU else True, precision="bf16")
    run = Run.prepare(asked.model, asked.training, asked.compute, bundled(DEFAULT_PRESET, "tokens"))
    assert run.packed
    plan = run.plan(0)
    assert len(plan) > 20
    sizes, after_first = set(), 0
    for update, groups in enumerate(plan if ON_GPU else plan[:15], 1):
        work = run.work(groups)
        sizes |= {batch.source.shape[1] for _, batch in work.batches}
        loss = run.update(update, work)
        after_first = after_first or compilations()
    assert torch.isfinite(loss)
    assert len(sizes) > 1
    assert compilations() == after_first > 0


def test_the_device_is_the_one_asked_for() -> None:
    assert run_of(params()).model.device.type == DEVICE
