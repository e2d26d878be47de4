"""What the kernels of a profile were for, how long the device had nothing to do, and how many bytes were moved.

Reads the events of `torch.profiler`'s Chrome trace (kineto). A kernel is tied to the call that launched it by its
correlation number, and so to the operator and the range that the call lies in. A profile without a GPU has no
kernels: there, the times that operators spend outside of the operators that they call stand for them.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Event = dict[str, Any]

ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver")
ON_HOST = ("cpu_op", "user_annotation")

# Words of the names of ranges: torch names its own after the autograd function and the optimizer.
LOSS_RANGE, OPTIMIZER_RANGE = "ProjectedCrossEntropy", "Optimizer.step"

# Words of kernels' names, in the order in which they are looked for.
ATTENTION = ("flash", "fmha", "attention", "attn", "softmax")
PRODUCTS = ("gemm", "nvjet", "cutlass", "xmma", "wgmma", "splitk", "cublas", "triton_tem", "aten::mm", "aten::addmm",
            "aten::bmm", "aten::baddbmm", "aten::linear", "mkldnn")  # fmt: skip
NORM_AND_DROPOUT = ("layer_norm", "layernorm", "dropout", "native_dropout", "rand", "seeds", "bernoulli", "gt_mul")
OPTIMIZER = ("adam", "multi_tensor_apply")
COPIES = ("memcpy", "memset")
CLASSES = ("attention", "products", "norm and dropout", "loss", "optimizer", "copies", "other")

ITEM_BYTES = {
    "double": 8, "float": 4, "c10::BFloat16": 2, "c10::Half": 2, "long int": 8, "int": 4, "short": 2, "bool": 1,
    "unsigned char": 1, "signed char": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Kernel:
    """A piece of work on the device; times in microseconds."""

    name: str
    begin: float
    duration: float
    kind: str  # of CLASSES
    bytes: int | None  # of the launching operator's arguments; None where their shapes were not recorded

    @property
    def end(self) -> float:
        """When the device was done with it."""
        return self.begin + self.duration


def kernels_of(events: Iterable[Event]) -> list[Kernel]:
    """The device's work in the order of time."""
    complete = [event for event in events if event.get("ph") == "X"]
    work = [event for event in complete if event.get("cat") in ON_DEVICE]
    host = Host(complete)
    if not work:
        return sorted((_kernel(event, host.around(event)) for event in host.own_times()), key=_begin)
    calls = {
        event["args"]["correlation"]: event
        for event in complete
        if event.get("cat") in LAUNCHES and "correlation" in event.get("args", {})
    }
    launched = [(event, calls.get(event.get("args", {}).get("correlation"))) for event in work]
    return sorted((_kernel(event, host.around(call) if call else []) for event, call in launched), key=_begin)


def _begin(kernel: Kernel) -> float:
    return kernel.begin


def _kernel(event: Event, around: list[Event]) -> Kernel:
    """The kernel of a device event, launched inside the host events `around` it."""
    kind = kernel_class(event["name"], [outer["name"] for outer in around])
    moved = next((total for outer in reversed(around) if (total := argument_bytes(outer)) is not None), None)
    return Kernel(event["name"], float(event["ts"]), float(event.get("dur", 0)), kind, moved)


def kernel_class(name: str, ranges: Sequence[str]) -> str:
    """What a kernel of that name, launched inside these ranges, was for.

    Products count as products wherever they are, the projection to the vocabulary and its backward pass too.
    """
    lowered = name.lower()

    def named(words: Sequence[str]) -> bool:
        return any(word in lowered for word in words)

    if any(OPTIMIZER_RANGE in outer for outer in ranges) or named(OPTIMIZER):
        return "optimizer"
    if named(COPIES):
        return "copies"
    if named(PRODUCTS) and not named(ATTENTION):  # some flash kernels are of the library of the products
        return "products"
    if any(LOSS_RANGE in outer for outer in ranges):
        return "loss"
    if named(ATTENTION):
        return "attention"
    return "norm and dropout" if named(NORM_AND_DROPOUT) else "other"


def argument_bytes(event: Event) -> int | None:
    """Bytes of an operator's tensors, each once and whole; None where no shape was recorded.

    Compiled kernels have their results among their arguments; a product's that torch allocates is added.
    """
    arguments = event.get("args", {})
    shapes, types = arguments.get("Input Dims"), arguments.get("Input type", [])
    if not shapes:
        return None
    sizes = [
        (_numel(shape) * ITEM_BYTES[kind], shape)
        for shape, kind in zip(shapes, types, strict=False)
        if kind in ITEM_BYTES and shape and not isinstance(shape[0], list)
    ]
    if not sizes:
        return None
    total = sum(size for size, _ in sizes)
    matrices = [shape for _, shape in sizes if len(shape) > 1]
    if event["name"] in ("aten::mm", "aten::addmm", "aten::bmm") and len(matrices) == 2:
        (*batch, rows, _), (*_, columns) = matrices
        item = next(ITEM_BYTES[kind] for kind in reversed(types) if kind in ITEM_BYTES)
        total += _numel([*batch, rows, columns]) * item
    return total


def _numel(shape: Sequence[int]) -> int:
    product = 1
    for size in shape:
        product *= size
    return product


class Host:
    """The nested ranges of each thread: operators, and what is named around them."""

    def __init__(self, events: Iterable[Event]) -> None:
        self._threads: dict[Any, list[Event]] = defaultdict(list)
        for event in events:
            if event.get("ph") == "X" and event.get("cat") in ON_HOST:
                self._threads[event["pid"], event["tid"]].append(event)
        self._begins: dict[Any, list[float]] = {}
        self._parents: dict[Any, list[int]] = {}
        for thread, inside in self._threads.items():
            inside.sort(key=lambda event: (event["ts"], -event.get("dur", 0)))
            self._begins[thread] = [event["ts"] for event in inside]
            self._parents[thread] = _parents(inside)

    def around(self, event: Event) -> list[Event]:
        """The ranges that were open when `event` began, outermost first, itself included if it is one."""
        thread = event["pid"], event["tid"]
        if thread not in self._threads:
            return []
        inside, found = self._threads[thread], list[Event]()
        place = bisect_right(self._begins[thread], event["ts"]) - 1
        while place >= 0:
            if inside[place]["ts"] + inside[place].get("dur", 0) >= event["ts"]:
                found.append(inside[place])
            place = self._parents[thread][place]
        return found[::-1]

    def operators(self) -> list[Event]:
        """All calls of operators."""
        return [event for inside in self._threads.values() for event in inside if event["cat"] == "cpu_op"]

    def own_times(self) -> list[Event]:
        """Each stretch of time in which an operator, and no other inside it, was at work, as an event."""
        found = []
        for thread, inside in self._threads.items():
            since = [event["ts"] for event in inside]
            for event, parent in zip(inside, self._parents[thread], strict=True):
                if parent >= 0:
                    found.append({**inside[parent], "ts": since[parent], "dur": event["ts"] - since[parent]})
                    since[parent] = event["ts"] + event.get("dur", 0)
            found += [
                {**event, "ts": begin, "dur": event["ts"] + event.get("dur", 0) - begin}
                for event, begin in zip(inside, since, strict=True)
            ]
        return [event for event in found if event["cat"] == "cpu_op" and event["dur"] > 0]


def _parents(events: list[Event]) -> list[int]:
    """For each of a thread's events, sorted, the number of the one right around it; -1 where there is none."""
    parents, open_ = [], list[int]()
    for number, event in enumerate(events):
        while open_ and events[open_[-1]]["ts"] + events[open_[-1]].get("dur", 0) <= event["ts"]:
            open_.pop()
        parents.append(open_[-1] if open_ else -1)
        open_.append(number)
    return parents


def breakdown(kernels: Sequence[Kernel]) -> dict[str, float]:
    """Each class's share of the time from the first kernel to the end of the last, and `idle`: when none ran.

    Kernels that run side by side count each, so that the shares may add up to more than one.
    """
    span = max(kernel.end for kernel in kernels) - kernels[0].begin
    busy = span - sum(gap for gap, _, _ in gaps(kernels))
    shares = {kind: sum(k.duration for k in kernels if k.kind == kind) / span for kind in CLASSES}
    return shares | {"idle": 1 - busy / span}


def gaps(kernels: Sequence[Kernel]) -> list[tuple[float, str, str]]:
    """The times when nothing ran, longest first: microseconds, the kernel before, the kernel after."""
    found, last = [], kernels[0]
    for kernel in kernels[1:]:
        if kernel.begin > last.end:
            found.append((kernel.begin - last.end, last.name, kernel.name))
        if kernel.end > last.end:
            last = kernel
    return sorted(found, reverse=True)


def costliest(kernels: Sequence[Kernel], updates: int, count: int, moved: dict[str, float]) -> list[dict[str, Any]]:
    """The kernels that took most time, all calls of a name for the same purpose together.

    `moved` has the mean bytes of a call by name, of a profile with shapes.
    """
    by_name: dict[tuple[str, str], list[Kernel]] = defaultdict(list)
    for kernel in kernels:
        by_name[kernel.name, kernel.kind].append(kernel)
    total = sum(kernel.duration for kernel in kernels)
    rows = []
    for (name, kind), calls in by_name.items():
        took = sum(kernel.duration for kernel in calls)
        row: dict[str, Any] = {
            "name": name[:200],
            "kind": kind,
            "calls_an_update": len(calls) / updates,
            "ms_an_update": took / updates / 1000,
            "share": took / total,
        }
        if name in moved:
            row["megabytes_a_call"] = moved[name] / 1e6
            row["gigabytes_a_second"] = moved[name] * len(calls) / took / 1e3 if took else None
        rows.append(row)
    return sorted(rows, key=lambda row: -row["ms_an_update"])[:count]


def mean_bytes(kernels: Sequence[Kernel]) -> dict[str, float]:
    """The mean bytes of a call, by name, where they are known."""
    by_name: dict[str, list[int]] = defaultdict(list)
    for kernel in kernels:
        if kernel.bytes is not None:
            by_name[kernel.name].append(kernel.bytes)
    return {name: sum(sizes) / len(sizes) for name, sizes in by_name.items()}
