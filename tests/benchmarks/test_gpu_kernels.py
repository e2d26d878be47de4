"""What a profile's kernels were for: a trace made by hand, as torch's profiler writes one on a GPU."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.kernels import breakdown, costliest, gaps, kernel_class, kernels_of, mean_bytes
from transformer.training.objective import plain_smoothed, smoothed_cross_entropy

MAIN, BACKWARD = 1, 2  # threads


def event(category: str, name: str, thread: int, begin: float, end: float, **args: Any) -> dict[str, Any]:
    return {"ph": "X", "cat": category, "name": name, "pid": 7, "tid": thread, "ts": begin, "dur": end - begin,
            "args": args}  # fmt: skip


def host(name: str, begin: float, end: float, thread: int = MAIN, **args: Any) -> dict[str, Any]:
    return event("user_annotation" if name.startswith("Optimizer") else "cpu_op", name, thread, begin, end, **args)


def launched(
    number: int, call: float, name: str, begin: float, end: float, thread: int = MAIN, stream: int = 7
) -> list[dict[str, Any]]:
    """The call at this moment, and the kernel that it launched."""
    by = ("cuda_driver", "cuLaunchKernelEx") if name.startswith("triton") else ("cuda_runtime", "cudaLaunchKernel")
    category = "gpu_memcpy" if name.startswith("Memcpy") else "kernel"
    return [
        event(*by, thread, call, call + 2, correlation=number),
        event(category, name, stream, begin, end, correlation=number, stream=stream),
    ]


MM = {"Input Dims": [[100, 64], [64, 200]], "Input type": ["c10::BFloat16", "c10::BFloat16"]}
NORM = {"Input Dims": [[100, 64], [64], [100, 64], []], "Input type": ["float", "float", "c10::BFloat16", "Scalar"]}
TRACE = [
    {"ph": "M", "name": "process_name", "pid": 7, "args": {"name": "python"}},
    host("CompiledFunction", 0, 100),
    host("aten::mm", 10, 20, **MM),
    *launched(1, 12, "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", 50, 150),
    host("triton_per_fused_add_native_layer_norm_0", 22, 30, **NORM),
    *launched(2, 24, "triton_per_fused_add_native_layer_norm_0", 150, 180),
    host("ProjectedCrossEntropy", 110, 200),
    host("aten::mm", 120, 130, **MM),
    *launched(3, 125, "nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", 200, 300),
    *launched(4, 140, "triton_red_fused_exp_sum_1", 300, 340),
    host("ProjectedCrossEntropyBackward", 210, 230, BACKWARD),
    *launched(5, 220, "void at::native::vectorized_elementwise_kernel<4, MulFunctor<float>>", 340, 350, BACKWARD),
    *launched(6, 240, "void flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<cutlass::half>", 350, 450, BACKWARD),
    # On another stream, beside the one above: the device is not idle while either runs.
    *launched(7, 250, "Memcpy HtoD (Pinned -> Device)", 430, 470, stream=9),
    host("Optimizer.step#Adam.step", 300, 320),
    *launched(8, 310, "void at::native::vectorized_elementwise_kernel<4, MulFunctor<float>>", 530, 550),
]  # fmt: skip


def test_a_trace_by_hand() -> None:
    kernels = kernels_of(TRACE)
    assert [kernel.kind for kernel in kernels] == [
        "products", "norm and dropout", "products", "loss", "loss", "attention", "copies", "optimizer",
    ]  # fmt: skip
    shares = breakdown(kernels)
    assert shares == pytest.approx(
        {
            "products": 200 / 500,
            "norm and dropout": 30 / 500,
            "loss": 50 / 500,
            "attention": 100 / 500,
            "copies": 40 / 500,
            "optimizer": 20 / 500,
            "other": 0,
            "idle": (20 + 60) / 500,
        }
    )
    assert [gap for gap, _, _ in gaps(kernels)] == [60, 20]
    assert gaps(kernels)[0][1:] == ("Memcpy HtoD (Pinned -> Device)", kernels[-1].name)


def test_bytes_are_those_of_the_launching_operators_tensors() -> None:
    moved = mean_bytes(kernels_of(TRACE))
    of_product = 2 * (100 * 64 + 64 * 200 + 100 * 200)
    of_norm = 4 * (100 * 64 + 64) + 2 * 100 * 64
    assert moved == {"nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT": of_product,
                     "triton_per_fused_add_native_layer_norm_0": of_norm}  # fmt: skip
    rows = costliest(kernels_of(TRACE), 2, 3, moved)
    assert [row["name"][:5] for row in rows] == ["nvjet", "void ", "trito"]
    first = rows[0]
    assert first["calls_an_update"] == 1
    assert first["ms_an_update"] == pytest.approx(0.1)
    assert first["share"] == pytest.approx(200 / 440)
    assert first["megabytes_a_call"] == pytest.approx(of_product / 1e6)
    assert first["gigabytes_a_second"] == pytest.approx(of_product / 100e-6 / 1e9)
    assert "megabytes_a_call" not in rows[1]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("void cutlass::device_kernel<flash::enable_sm90_or_later<flash::FlashAttnFwdSm90<int>>>", "attention"),
        ("fmha_cutlassF_bf16_aligned_64x64_rf_sm80", "attention"),
        ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1", "products"),
        ("ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_nn", "products"),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", "products"),
        ("triton_poi_fused_native_dropout_random_3", "norm and dropout"),
        ("triton_red_fused_add_native_layer_norm_native_layer_norm_backward_sum_12", "norm and dropout"),
        (
            "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<FusedAdamMathFunctor<float>>",
            "optimizer",
        ),
        ("Memset (Device)", "copies"),
        ("triton_poi_fused__to_copy_5", "other"),
    ],
)
def test_classes_by_name(name: str, expected: str) -> None:
    assert kernel_class(name, []) == expected


def test_torchs_own_names_of_the_ranges(tmp_path: Path) -> None:
    """The loss and the optimizer are found in a real profile, without a GPU: by what operators do by themselves."""
    hidden, weight = torch.randn(4, 8, 16, requires_grad=True), torch.randn(50, 16, requires_grad=True)
    optimizer = torch.optim.Adam([hidden, weight], fused=True)
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        labels = torch.randint(1, 50, (4, 8))
        smoothed_cross_entropy(hidden, weight, labels, 0.1, torch.bfloat16, plain_smoothed).backward()
        optimizer.step()
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    kernels = kernels_of(json.loads((tmp_path / "trace.json").read_text())["traceEvents"])
    by_class = {kind: {kernel.name for kernel in kernels if kernel.kind == kind} for kind in breakdown(kernels)}
    assert "aten::mm" in by_class["products"]
    assert {"aten::_softmax", "ProjectedCrossEntropyBackward"} <= by_class["loss"]
    assert "aten::_fused_adam_" in by_class["optimizer"]
    assert "aten::random_" in by_class["norm and dropout"] | by_class["other"]
    assert all(kernel.duration > 0 for kernel in kernels)
    ends = [kernel.end for kernel in kernels]
    overlaps = [end - after.begin for end, after in zip(ends, kernels[1:], strict=False) if after.begin < end - 1e-3]
    assert overlaps == []  # an operator's own time leaves that of those inside it out
