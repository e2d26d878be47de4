"""Where the time of an update goes: every moment of every core belongs to one class, and products are counted."""

from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_inputs import TINY_PARAMS

from benchmarks import update_profile
from benchmarks.gpu.kernels import Kernel
from benchmarks.gpu.profile import traced
from benchmarks.update_profile import lines_of_kernels, lines_of_operators, operator_class, print_profile
from transformer.params import params_from

MAIN, FIRST, SECOND = 1, 2, 3  # threads


def operator(name: str, thread: int, begin: float, end: float, category: str = "cpu_op") -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 7, "tid": thread, "ts": begin, "dur": end - begin}


# Two cores, 100 µs: two threads compute side by side, the first one's Python included; then the main thread alone.
TRACE = [
    operator("aten::linear", FIRST, 0, 30),
    operator("aten::addmm", FIRST, 2, 30),
    operator("ProjectedCrossEntropy", FIRST, 30, 60),
    operator("aten::mm", FIRST, 30, 40),
    operator("aten::exp_", FIRST, 45, 50),
    operator("aten::bmm", SECOND, 0, 40),
    operator("aten::_foreach_add_", MAIN, 70, 80),
    operator("aten::add_", MAIN, 71, 80),
    operator("Optimizer.step#Adam.step", MAIN, 82, 100, "user_annotation"),
    operator("aten::_fused_adam_", MAIN, 85, 100),
]


def test_a_trace_by_hand() -> None:
    lines = {line.kind: line for line in lines_of_operators(TRACE, cores=2, updates=1)}
    assert {kind: line.share for kind, line in lines.items()} == pytest.approx(
        {
            "matrix products": (28 + 10 + 40) / 200,
            "loss": 5 / 200,
            "sums of gradients": 2 * 10 / 200,  # the main thread's operators have both cores
            "Adam": 2 * 15 / 200,
            "allocation, views, others": 2 / 200,
            "waiting": 65 / 200,
        }
    )
    assert {kind: line.calls for kind, line in lines.items()} == {
        "matrix products": 3,
        "loss": 1,
        "sums of gradients": 2,
        "Adam": 1,
        "allocation, views, others": 1,
        "waiting": 0,
    }
    assert lines["matrix products"].named == pytest.approx({"bmm": 0.2, "addmm": 0.14, "mm": 0.05})


def test_more_work_than_cores_is_shared() -> None:
    """The main thread sums gradients while others still compute: no share is lost, and none is counted twice."""
    beside = [operator("aten::mm", thread, 0, 100) for thread in (FIRST, SECOND)]
    adding = [operator("aten::add_", MAIN, 0, 50), operator("Optimizer.step#Adam", MAIN, 100, 101, "user_annotation")]
    step = operator("aten::_fused_adam_", MAIN, 100, 101)
    shares = {line.kind: line.share for line in lines_of_operators([*beside, *adding, step], cores=2, updates=1)}
    expected = {"matrix products": 75 / 101, "sums of gradients": 25 / 101, "Adam": 1 / 101, "waiting": 0}
    assert shares == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "ranges", "expected"),
    [
        ("aten::mm", ["ProjectedCrossEntropy"], "matrix products"),
        ("aten::copy_", ["ProjectedCrossEntropyBackward"], "loss"),
        ("aten::copy_", ["aten::to", "aten::_to_copy"], "copies and casts"),
        ("aten::mul_", ["Optimizer.step#Adam.step"], "Adam"),
        ("AddmmBackward0", [], "allocation, views, others"),
        ("CompiledFunction", [], "compiled code"),
        ("aten::some_new_operator", [], "allocation, views, others"),
    ],
)
def test_classes_by_name(name: str, ranges: list[str], expected: str) -> None:
    assert operator_class(name, ranges) == expected


class TinyRun:
    """In place of a training run: two micro-batches side by side, each of products that can be counted."""

    device = torch.device("cpu")

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.inner, self.outer = (torch.randn(32, 32, requires_grad=True) for _ in range(2))
        self.optimizer = torch.optim.Adam([self.inner, self.outer], fused=True)
        self.pool = pool

    def update(self, number: int, work: Any) -> torch.Tensor:
        def gradients(seed: int) -> tuple[torch.Tensor, ...]:
            x = torch.full((16, 32), float(seed))
            # Forward and backward: 1 and 1, as the input needs no gradient; 1 and 2; 1 and 2.
            hidden = (x @ self.inner).relu()
            scores = torch.bmm(hidden.view(2, 8, 32), hidden.view(2, 8, 32).mT)
            return torch.autograd.grad((hidden @ self.outer).sum() + scores.sum(), [self.inner, self.outer])

        first, second = self.pool.map(gradients, (1, 2))
        for weight, one, other in zip((self.inner, self.outer), first, second, strict=True):
            weight.grad = one.add_(other)
        self.optimizer.step()
        return self.inner.detach().sum()


def test_products_of_all_threads_are_counted() -> None:
    loader: Any = SimpleNamespace(next=lambda: (None, SimpleNamespace(tokens=1, flops=1)))
    with ThreadPoolExecutor(2) as pool:
        run: Any = TinyRun(pool)
        run.update(0, None)
        lines = {line.kind: line for line in lines_of_operators(traced(run, loader, 3), cores=2, updates=3)}
    assert lines["matrix products"].calls == 2 * ((1 + 1) + (1 + 2) + (1 + 2))
    assert set(lines["matrix products"].named) == {"mm", "bmm"}
    assert all(lines[kind].share > 0 for kind in ("Adam", "sums of gradients", "residuals, ReLU, scales", "waiting"))
    assert sum(line.share for line in lines.values()) == pytest.approx(1)


def test_the_classes_of_a_gpu_are_those_of_its_kernels() -> None:
    kernels = [Kernel("nvjet", 0, 30, "products", None), Kernel("nvjet", 30, 20, "products", None),
               Kernel("flash", 60, 40, "attention", None)]  # fmt: skip
    lines = {line.kind: (line.share, line.calls) for line in lines_of_kernels(kernels, updates=2)}
    assert lines["products"] == (0.5, 1)
    assert lines["attention"] == (0.4, 0.5)
    assert lines["idle"] == (pytest.approx(0.1), 0)
    assert sum(share for share, _ in lines.values()) == pytest.approx(1)


def test_a_training_is_profiled(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(update_profile, "WIDTH", {"cpu": 64})
    compute = {**TINY_PARAMS["compute"], "threads": 2}
    print_profile(params_from({**TINY_PARAMS, "compute": compute}, "test"), None, 2)
    lines = capsys.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("5 updates under"))
    assert lines[first].endswith(", 2 threads")
    end = next(number for number, line in enumerate(lines) if line.startswith("all "))
    rows = {line[:30].rstrip(): line[30:].split()[:3] for line in lines[first + 2 : end]}
    assert sum(float(share.rstrip("%")) for share, _, _ in rows.values()) == pytest.approx(100, abs=1)
    assert lines[end].split()[1] == "100.0%"
    for kind in "matrix products", "norms", "loss", "Adam", "copies and casts", "sums of gradients":
        assert int(rows[kind][2].replace(",", "")) > 0
    assert rows["waiting"][2] == "-"
    assert lines[-1].startswith("fp32: ")
    assert lines[-1].endswith("% of it")
