"""Where the time of an update goes, and which share of the machine's matrix rate: `benchmarks.training --profile`.

On a CPU by operators. An operator that the main thread calls counts for all cores, since torch splits it or the
others wait for it; the threads that compute micro-batches side by side have an equal share of the cores each. What is
left is waiting: no operator runs there, because of Python, of another thread or of data. On a GPU by kernels.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.gpu.kernels import LOSS_RANGE, OPTIMIZER_RANGE, Event, Host, Kernel, breakdown, kernels_of
from benchmarks.gpu.machine import matrix_rate
from benchmarks.gpu.profile import traced
from benchmarks.training import UPDATES, WARM_UP, advance, as_trained, print_row, timed
from transformer.model.device import precision_name, select_precision
from transformer.params import Params
from transformer.training.loader import Loader
from transformer.training.run import Run

WIDTH = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose product is the machine's rate
PROFILED = 5  # updates
NAMED = 3  # operators of a class that its line names

PRODUCTS = "matrix products"
OPTIMIZER, LOSS, REST, WAITING = "Adam", "loss", "allocation, views, others", "waiting"
# Where neither the optimizer nor the loss is around: operators by name, without "aten::".
KINDS = {
    PRODUCTS: ("mm", "addmm", "bmm", "baddbmm", "_addmm_activation", "mkldnn_linear", "_mkl_linear",
               "mkldnn::_linear_pointwise"),
    "softmax, exponentials, masks": ("_softmax", "_softmax_backward_data", "exp", "exp_", "where", "isneginf", "all",
                                     "masked_fill", "masked_fill_", "triu", "tril"),
    "dropout's numbers": ("random_", "bernoulli_", "ge", "native_dropout"),
    "norms": ("native_layer_norm", "native_layer_norm_backward"),
    "copies and casts": ("copy_", "cat", "clone"),
    "sums of gradients": ("add_", "sum", "_foreach_add_"),
    "fills": ("fill_", "zero_"),
    "residuals, ReLU, scales": ("add", "mul", "mul_", "div", "div_", "relu", "clamp_min", "threshold_backward"),
    "embeddings": ("index_select", "embedding_dense_backward", "index"),
}  # fmt: skip
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
COMPILED = "compiled code"
CLASSES = (*KINDS, LOSS, OPTIMIZER, COMPILED, REST, WAITING)


@dataclass(frozen=True)
class Line:
    """A class of work, in a mean update."""

    kind: str
    share: float  # of the update's time
    calls: float
    named: dict[str, float]  # the shares of its costliest operators


def operator_class(name: str, ranges: Sequence[str]) -> str:
    """What an operator inside these ranges is for. Products are products in the loss too, where they are a third."""
    short = name.removeprefix("aten::")
    if any(OPTIMIZER_RANGE in outer for outer in ranges):
        return OPTIMIZER
    if KIND_OF.get(short) == PRODUCTS:
        return PRODUCTS
    if "Compiled" in name or name.startswith("graph_"):
        return COMPILED
    if not re.search(r"::|Backward\d+$", name):
        return WAITING  # a function in Python, outside of the operators that it calls
    if any(LOSS_RANGE in outer for outer in ranges):
        return LOSS
    return KIND_OF.get(short, REST)


def lines_of_operators(events: Iterable[Event], cores: int, updates: int) -> list[Line]:
    """The classes of a CPU's profile; their shares add up to one."""
    host = Host(events)

    def kind(event: Event) -> str:
        return operator_class(event["name"], [outer["name"] for outer in host.around(event)])

    calls = Counter(kind(event) for event in host.operators())
    working = [(event, found) for event in host.own_times() if (found := kind(event)) != WAITING]
    weights = _weights(working, cores)
    shares: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for (found, name), share in _occupied(working, weights, cores).items():
        shares[found][name.rpartition(": ")[2].removeprefix("aten::")] += share
    busy = sum(share for by_name in shares.values() for share in by_name.values())
    lines = [_line(found, shares[found], calls[found] / updates) for found in CLASSES if found in shares]
    return [*lines, Line(WAITING, 1 - busy, 0, {})]


def _line(kind: str, by_name: dict[str, float], calls: float) -> Line:
    costliest = sorted(by_name.items(), key=lambda one: -one[1])[:NAMED]
    return Line(kind, sum(by_name.values()), calls, dict(costliest))


Working = list[tuple[Event, str]]  # stretches of time in which an operator was at work, and its class


def _weights(working: Working, cores: int) -> dict[int, int]:
    """How many cores an operator of each thread occupies."""
    main = {event["tid"] for event, kind in working if kind == OPTIMIZER}
    side_by_side = {event["tid"] for event, kind in working if kind in (PRODUCTS, COMPILED)} - main
    each = max(1, cores // max(1, len(side_by_side)))
    found = {event["tid"]: 1 for event, _ in working}  # the threads that assemble batches
    return found | dict.fromkeys(side_by_side, each) | dict.fromkeys(main, cores)


def _occupied(working: Working, weights: dict[int, int], cores: int) -> dict[tuple[str, str], float]:
    """The share of the cores' time that each operator had; more cores than there are, are shared."""
    edges = []
    for event, kind in working:
        key, weight = (kind, event["name"]), weights[event["tid"]]
        edges += [(event["ts"], weight, key), (event["ts"] + event["dur"], -weight, key)]
    edges.sort(key=lambda edge: edge[0])
    span = edges[-1][0] - edges[0][0]
    running: Counter[tuple[str, str]] = Counter()
    found: dict[tuple[str, str], float] = defaultdict(float)
    last = edges[0][0]
    for at, weight, key in edges:
        if at > last and (asked := sum(running.values())):
            for one, of_it in running.items():
                found[one] += of_it * (at - last) / max(asked, cores) / span
        last = at
        running[key] += weight
        if not running[key]:
            del running[key]
    return found


def lines_of_kernels(kernels: Sequence[Kernel], updates: int) -> list[Line]:
    """The classes of a GPU's profile."""
    calls = Counter(kernel.kind for kernel in kernels)
    return [Line(kind, share, calls[kind] / updates, {}) for kind, share in breakdown(kernels).items()]


def table(lines: Sequence[Line], update: float) -> Iterator[str]:
    """The lines of the table of an update that took so many seconds under the profiler."""
    yield f"{'what':30} {'share':>6} {'ms':>9} {'calls':>8}  of it"
    for line in lines:
        named = ", ".join(f"{name} {share:.1%}" for name, share in line.named.items())
        calls = f"{line.calls:,.0f}" if line.calls else "-"
        yield f"{line.kind:30} {line.share:6.1%} {1e3 * line.share * update:9,.1f} {calls:>8}  {named}".rstrip()
    yield f"{'all':30} {sum(line.share for line in lines):6.1%} {1e3 * update:9,.1f}"


def profiled(run: Run, loader: Loader, updates: int) -> tuple[list[Line], float]:
    """Where the time of the next updates goes, and the seconds of one of them; the run has warmed up."""
    events = traced(run, loader, updates)
    kernels = kernels_of(events)  # on a CPU, its operators'
    update = (max(kernel.end for kernel in kernels) - kernels[0].begin) / updates / 1e6
    if run.device.type == "cuda":
        return lines_of_kernels(kernels, updates), update
    return lines_of_operators(events, torch.get_num_threads(), updates), update


def print_profile(params: Params, tokens: Path | None, updates: int | None) -> None:
    """The speed of ours, where the time of an update goes, and the share of the machine's matrix rate.

    Raises:
        UserError: this device cannot train it, or the tokens are not there.
    """
    run = as_trained(params, tokens)
    kind = run.device.type
    with Loader(run, 0, 0) as loader:
        advance(run, loader, WARM_UP.get(kind, 3))
        found = timed("ours", run, loader, updates or UPDATES.get(kind, 10))
        print_row(found, None)
        lines, update = profiled(run, loader, PROFILED)
    threads = f", {torch.get_num_threads()} threads" if kind == "cpu" else ""
    print(f"\n{PROFILED} updates under torch's profiler{threads}")
    print("\n".join(table(lines, update)), flush=True)
    width = WIDTH.get(kind, 2048)
    print(f"\nmatrix rate, {width}³{threads}")
    for precision in torch.bfloat16, torch.float32:
        if precision == torch.bfloat16 != select_precision("auto", run.device):
            print("bf16: this machine does not multiply in it")
            continue
        rate, ours = matrix_rate(run.device, precision, width) / 1e9, found.teraflops * 1e3
        share = f"; training: {ours:,.0f}, {ours / rate:.0%} of it" if precision == run.precision else ""
        print(f"{precision_name(precision)}: {rate:,.0f} GFLOP/s{share}", flush=True)
