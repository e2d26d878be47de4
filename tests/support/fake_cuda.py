"""Training as on a GPU, on tensors without numbers: `python tests/support/fake_cuda.py LIBRARY SCENARIO ARGUMENTS`.

Shapes, dtypes, devices and operators are those of the real thing, sizes as well, and it takes seconds on any machine.
A scenario is a function of this module; it runs in a process of its own, because the pretended device stays for good,
and prints its findings as JSON. `compile_library` makes LIBRARY from fake_cuda.cpp.
"""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

CHECKOUT = Path(__file__).parents[2]
TORCH = Path((importlib.util.find_spec("torch").submodule_search_locations or [""])[0])  # type: ignore[union-attr]


def compile_library(folder: Path) -> None:
    """Compile fake_cuda.cpp into this folder against the installed torch, in two seconds."""
    folder.mkdir(parents=True)
    paths = [f"-I{TORCH / 'include'}", f"-L{TORCH / 'lib'}"]
    options = ["-shared", "-fPIC", "-std=c++20", "-o", str(folder / "fake_cuda.so")]
    subprocess.run(
        ["c++", *options, *paths, str(Path(__file__).with_suffix(".cpp")), "-lc10", "-ltorch_cpu"], check=True
    )


def find(library: Path, scenario: str, **arguments: Any) -> Any:
    """What a scenario finds, in a process of its own."""
    command = [sys.executable, __file__, str(library), scenario, json.dumps(arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "CUBLAS_WORKSPACE_CONFIG"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def load(library: Path) -> None:
    """Pretend that there is a GPU; before torch is imported."""
    for name in "libc10.so", "libtorch_cpu.so":
        ctypes.CDLL(str(TORCH / "lib" / name), ctypes.RTLD_GLOBAL)
    stand_in = ctypes.CDLL(str(library))
    import torch

    torch._C._ensureCUDADeviceGuardSet = lambda: None  # FakeTensorMode's own stand-in, which knows no streams
    stand_in.guard_cuda()


@contextmanager
def on_a_gpu() -> Iterator[Any]:
    """FakeTensorMode, in which `device: auto` is an H100."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    import transformer.training.run as run

    with (
        patch.object(run, "select_device", lambda name: torch.device("cuda", 0)),
        patch.object(torch.cuda, "get_device_capability", lambda device=None: (9, 0)),
        patch.object(torch.cuda, "is_bf16_supported", lambda *_, **__: True),
        patch.object(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False),
        patch.object(torch.cuda, "device", lambda device: nullcontext()),
        patch.object(torch.Tensor, "pin_memory", lambda tensor: tensor),
        patch.object(torch.nn.Module, "to", _moved),
        FakeTensorMode(allow_non_fake_inputs=True) as mode,
    ):
        yield mode


def _moved(module: Any, device: Any) -> Any:
    """`Module.to`, which cannot move fake parameters."""
    import torch

    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            part.register_parameter(name, torch.nn.Parameter(weight.detach().to(device)))
        for name, buffer in part.named_buffers(recurse=False):
            part._buffers[name] = buffer.to(device)
    return module


def _run(preset: str, layers: int | None = None, changes: dict[str, Any] | None = None) -> Any:
    """A run of this preset, its model changed, on sentences of newstest's lengths; `layers` are of each side."""
    from benchmarks.newstest import Pieces, random_split
    from transformer.params import load_params
    from transformer.training.run import Run

    params = load_params(CHECKOUT / "presets" / f"{preset}.yaml")
    changes = {**(changes or {}), **({"encoder_layers": layers, "decoder_layers": layers} if layers else {})}
    shape = params.model.model_copy(update=changes)
    pieces = Pieces(params.tokenization.vocabulary_size)
    split = random_split(5000, pieces.size)
    return Run.start(shape, params.training, params.compute, pieces, split, split)


def update(preset: str) -> dict[str, Any]:
    """An update of packed sentences without torch.compile: what is where, and which operators compute it."""
    from torch.utils._python_dispatch import TorchDispatchMode

    from transformer.training.loader import Loader
    from transformer.training.objective import Network

    operators: Counter[str] = Counter()

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
            name = str(function).removesuffix(".default")
            if name in ("aten.mm", "aten.addmm", "aten.bmm") or "_attn" in name or "attention" in name:
                if "varlen" in name:
                    name += f" {_as_flash_attention_wants(*arguments)}"
                else:
                    name += f" {_dtypes(arguments)}"
            operators[name] += 1
            return function(*arguments, **(keywords or {}))

    with on_a_gpu():
        run = _run(preset)
        run.network = Network(run.model, run.settings.label_smoothing, run.precision, compiled=False)
        with Loader(run, 0, 0) as loader, Recorder():
            loss = run.update(1, loader.next()[1])
        tensors = {
            f"{name} {tensor.device} {tensor.dtype}"
            for name in ("weight", "exp_avg", "exp_avg_sq")
            for weight, moments in run.optimizer.state.items()
            for tensor in [{"weight": weight, **moments}[name]]
        }
        return {
            "packed": run.packed,
            "cublas": os.environ["CUBLAS_WORKSPACE_CONFIG"],
            "loss": f"{tuple(loss.shape)} {loss.device} {loss.dtype}",
            "tensors": sorted(tensors),
            "moments": len(run.optimizer.state),
            "weights": len(list(run.model.parameters())),
            "operators": dict(operators),
        }


def _dtypes(arguments: Any) -> str:
    """Of the tensors among these: the kernels want those of a product alike, which FakeTensorMode does not check."""
    import torch

    found = (str(one.dtype).removeprefix("torch.") for one in arguments if isinstance(one, torch.Tensor))
    return " ".join(dict.fromkeys(found))


def _as_flash_attention_wants(*arguments: Any) -> tuple[int, ...]:
    """The heads, after the checks with which flash attention's kernels begin on a GPU and its fake ones do not.

    Those of `mha_varlen_fwd` and `mha_varlen_bwd` in flash_api.cpp.
    """
    import torch

    tensors = [one for one in arguments if isinstance(one, torch.Tensor)]
    heads = [one for one in tensors if one.dim() == 3]
    edges = [one for one in tensors if one.dim() == 1 and one.dtype not in (torch.uint64, torch.float32)]
    assert {one.dtype for one in heads} == {torch.bfloat16}
    assert {one.stride(-1) for one in heads} == {1}
    assert len({one.shape[1:] for one in heads}) == 1
    assert heads[0].size(2) % 8 == 0
    assert heads[0].size(2) <= 256
    assert len(edges) == 2
    assert all(one.dtype == torch.int32 and one.is_contiguous() for one in edges)
    assert edges[0].shape == edges[1].shape
    return tuple(heads[0].shape[1:])


def compiled(preset: str, layers: int, updates: int) -> dict[str, Any]:
    """Updates of as many sizes, traced as torch.compile traces them: graphs after each, and the operators in them."""
    import torch
    from torch._dynamo.backends.common import aot_autograd
    from torch._inductor.decomposition import select_decomp_table

    from transformer.training.loader import Loader
    from transformer.training.objective import compilations

    operators: Counter[str] = Counter()

    def kept(graph: Any, inputs: Any) -> Callable[..., Any]:
        from functorch.compile import make_boxed_func

        operators.update(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)  # type: ignore[no-any-return]

    backend = aot_autograd(fw_compiler=kept, bw_compiler=kept, decompositions=select_decomp_table)
    sizes, graphs = [], []
    with patch.object(torch, "compile", partial(torch.compile, backend=backend)), on_a_gpu():
        run = _run(preset, layers)
        with Loader(run, 0, 0) as loader:
            for number in range(1, updates + 1):
                _, work = loader.next()
                sizes.append([(batch.source.shape[1], batch.target_out.shape[1]) for _, batch in work.batches])
                run.update(number, work)
                graphs.append(compilations())
    return {"sizes": sizes, "graphs": graphs, "operators": dict(operators)}


def memory(preset: str, layers: list[int], changes: dict[str, Any]) -> list[dict[str, Any]]:
    """For each number of layers, the most bytes that tensors took in an update, and what arithmetic says of it."""
    from transformer.training.loader import Loader
    from transformer.training.memory import bytes_a_token, bytes_without_tokens
    from transformer.training.objective import Network

    found = []
    for count in layers:
        with on_a_gpu(), _tracked() as tracked:
            run = _run(preset, count, changes)
            run.network = Network(run.model, run.settings.label_smoothing, run.precision, compiled=False)
            with Loader(run, 0, 0) as loader:
                for number in (1, 2):  # Adam's moments come with the first
                    _, work = loader.next()
                    tracked.peak = tracked.total
                    run.update(number, work)
        (_, batch), *_ = work.batches
        sides = [side.shape[1] for side in (batch.source, batch.target_out)]
        found.append(
            {
                "peak": tracked.peak,
                "fixed": bytes_without_tokens(run.shape, run.vocabulary.size),
                "tokens": bytes_a_token(run.shape, 16) * max(sides),
                "weights": sum(weight.numel() for weight in run.model.parameters()),
                "sides": sides,
            }
        )
    return found


@contextmanager
def _tracked() -> Iterator[Any]:
    """Counts the bytes of the pretended device's storages as they come and go, in blocks of 512 as torch's allocator.

    Not by a TorchDispatchMode such as torch.distributed's MemTracker: under one nothing is compiled.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

    dispatch, live = FakeTensorMode.dispatch, SimpleNamespace(total=0, peak=0, sizes={})

    def counted(mode: Any, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = dispatch(mode, function, types, arguments, keywords or {})
        for tensor in torch.utils._pytree.tree_leaves(result) if mode.shape_env is None else ():
            if isinstance(tensor, FakeTensor) and tensor.fake_device.type == "cuda":
                storage = tensor.untyped_storage()
                if (key := storage._cdata) not in live.sizes:
                    live.sizes[key] = -(-storage.nbytes() // 512) * 512
                    live.total += live.sizes[key]
                    live.peak = max(live.peak, live.total)
                    weakref.finalize(storage, lambda key: _freed(live, key), key)
        return result

    with patch.object(FakeTensorMode, "dispatch", counted):
        yield live


def _freed(live: Any, key: int) -> None:
    live.total -= live.sizes.pop(key)


if __name__ == "__main__":
    sys.path.insert(0, str(CHECKOUT))
    load(Path(sys.argv[1]))
    print(json.dumps(globals()[sys.argv[2]](**json.loads(sys.argv[3]))))
