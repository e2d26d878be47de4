"""The path that training takes on a GPU, walked on any machine: shapes, dtypes, devices, operators and graphs.

Nothing is computed, and no kernel is compiled: tests/cuda does that where there is a GPU.
"""

import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import fake_cuda
import pytest
import torch
from tiny_inputs import once_a_test_run

from transformer.errors import ParamsError
from transformer.training.run import CUBLAS_WORKSPACES, _set_numerics

pytestmark = pytest.mark.skipif(not shutil.which("c++"), reason="the pretended device is compiled by c++")


@pytest.fixture(scope="session")
def find(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Runs a scenario of tests/support/fake_cuda.py."""
    folder = once_a_test_run(tmp_path_factory, "fake-cuda", fake_cuda.compile_library)
    return partial(fake_cuda.find, Path(folder / "fake_cuda.so"))


@pytest.mark.parametrize(("size", "heads"), [("base", 8), ("big", 16)])
def test_an_update_runs_on_the_gpu_with_products_in_bfloat16(find: Callable[..., Any], size: str, heads: int) -> None:
    found = find("update", preset=f"wmt14-en-de-{size}")
    assert found["packed"]
    assert found["cublas"] in CUBLAS_WORKSPACES
    assert found["loss"] == "() cuda:0 torch.float32"
    assert found["tensors"] == [f"{name} cuda:0 torch.float32" for name in ("exp_avg", "exp_avg_sq", "weight")]
    assert found["moments"] == found["weights"]
    operators = found["operators"]
    assert operators["aten._fused_adam_"] == 1
    # 6 layers of self-attention in the encoder, 6 of self-attention and of cross-attention in the decoder.
    assert {name: count for name, count in operators.items() if "attention" in name or "_attn" in name} == {
        f"torch_attn._varlen_attn ({heads}, 64)": 18,
        f"torch_attn._varlen_attn_backward ({heads}, 64)": 18,
    }
    assert documented(operators, "act") == {"gather", "index_put"}
    assert not documented(operators, "throw")
    products = {
        name.split(maxsplit=1)[1] for name in operators if name.startswith(("aten.mm", "aten.addmm", "aten.bmm"))
    }
    assert products == {"bfloat16"}


def documented(operators: dict[str, int], what: str) -> set[str]:
    """Those of the operators that torch lists as nondeterministic operations that `act` differently, or `throw`."""
    text = re.split(r"normally-nondeterministic operations will", torch.use_deterministic_algorithms.__doc__ or "")
    (listed,) = (part for part in text if part.split()[0] == what)
    names = {
        name.rsplit(".", 1)[-1].rstrip("_").lower() for name in re.findall(r":(?:class|func):`([\w.]+)`", listed)
    }
    assert len(names) > 10
    return names & {operator.split()[0].split(".")[1].rstrip("_") for operator in operators if "aten" in operator}


def test_an_operator_that_is_not_deterministic_is_in_the_table() -> None:
    """What `documented` finds above, and the operators that torch's list leaves out, with what we do about them."""
    table = (fake_cuda.CHECKOUT / "docs" / "scale.md").read_text(encoding="utf-8")
    for operator in "gather", "index_put", "embedding_dense_backward", "_fused_adam_", "cumsum", "native_layer_norm":
        assert re.search(rf"^\|.*`{operator}`", table, re.MULTILINE), operator
    assert documented({"aten.cumsum.default": 1, "aten.mm": 2}, "throw") == {"cumsum"}


@pytest.mark.parametrize("workspace", [":0:0", ""])
def test_a_workspace_that_cublas_must_not_have_is_refused(monkeypatch: pytest.MonkeyPatch, workspace: str) -> None:
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", workspace)
    with pytest.raises(ParamsError, match=r"CUBLAS_WORKSPACE_CONFIG is '.*', .*: unset it, or set it to :4096:8 or"):
        _set_numerics(torch.device("cuda"))


def test_updates_of_all_sizes_share_one_graph_each_way(find: Callable[..., Any]) -> None:
    """With big's heads too the graphs would be the same; two layers are enough to trace."""
    found = find("compiled", preset="wmt14-en-de-base", layers=1, updates=3)
    assert len({tuple(map(tuple, sizes)) for sizes in found["sizes"]}) == 3
    assert found["graphs"] == [2, 2, 2]  # the network and the loss, never again
    operators = found["operators"]
    assert documented(operators, "act") == {"gather"}
    assert not documented(operators, "throw")
    assert operators["torch_attn._varlen_attn.default"] == operators["torch_attn._varlen_attn_backward.default"] == 3
    assert not any("scaled_dot_product" in name or name.startswith("aten.bmm") for name in operators)


@pytest.mark.parametrize(("size", "changes"), [("base", {}), ("big", {}), ("base", {"norm": "pre", "dropout": 0.0})])
def test_the_memory_that_is_calculated_suffices(find: Callable[..., Any], size: str, changes: dict[str, Any]) -> None:
    """Against the storages of an update, tensor by tensor; kernels' own workspaces and fragments come on top."""
    few, many = find("memory", preset=f"wmt14-en-de-{size}", layers=[1, 3], changes=changes)
    for found in few, many:
        assert 1.1 < (found["fixed"] + found["tokens"]) / found["peak"] < 1.8
    # What two layers of each side add: weights with their moments, and what is kept a token. Compiled, a token of
    # base keeps 8 % more than in this eager update.
    added = many["peak"] - few["peak"] - 12 * (many["weights"] - few["weights"])
    assert 1.08 < (many["tokens"] - few["tokens"]) / added < (1.4 if changes else 1.2)
