"""How fast training is: tokens and operations a second, the share of the hardware's peak, waits, compilations."""

import logging

import numpy as np
import torch
from numpy.typing import NDArray

from transformer.params import ModelParams
from transformer.training.objective import compilations

log = logging.getLogger(__name__)

# Dense bfloat16 products with float32 sums, FLOP/s, by the words with which the device's name begins, from NVIDIA's
# data sheets (figures with sparsity halved).
PEAK_BFLOAT16 = {
    "NVIDIA H100 80GB HBM3": 989.4e12,  # H100 data sheet, SXM5
    "NVIDIA H100 NVL": 835.5e12,  # H100 data sheet, NVL: 1671 with sparsity
    "NVIDIA H100 PCIe": 756e12,  # H100 data sheet of 2022, PCIe: 1513 with sparsity
    "NVIDIA H200": 989.4e12,  # H200 data sheet, SXM: 1979 with sparsity
    "NVIDIA GH200": 989.4e12,  # GH200 data sheet: 1979 with sparsity
    "NVIDIA B200": 2250e12,  # HGX B200 data sheet, a GPU: 4500 with sparsity
    "NVIDIA A100": 312e12,  # A100 data sheet, PCIe and SXM alike
    "NVIDIA L40S": 362e12,  # L40S data sheet
    "NVIDIA L4": 121e12,  # L4 data sheet: 242 with sparsity
    "NVIDIA A10": 125e12,  # A10 data sheet
    "NVIDIA GeForce RTX 4090": 165.2e12,  # Ada architecture white paper, FP32 accumulate
    "NVIDIA GeForce RTX 3090": 71e12,  # Ampere GA102 white paper, FP32 accumulate
}


def training_flops(
    model: ModelParams, vocabulary_size: int, source_lengths: NDArray[np.int64], target_lengths: NDArray[np.int64]
) -> int:
    """Operations of the matrix products that these sentence pairs need, forward and backward.

    A product of m x n by n x k is 2 m n k, and its backward pass is two such products. Padding, recomputed values
    and the half of the decoder's self-attention that its mask hides are not counted; nor is anything but products.
    """
    d, keys, feed_forward = model.d_model, model.heads * model.d_k, 4 * model.d_model * model.d_ff
    # A token's two matrices for queries and output cost as much as those for keys and values: all heads together,
    # queries and keys are `keys` wide, values d.
    two_matrices = 2 * d * (keys + d)
    source, target = source_lengths.astype(np.int64), target_lengths.astype(np.int64)
    # A sentence's keys are multiplied with its queries, and the weights with its values.
    pair = 2 * (keys + d)
    pairs_encoder = int((source * source).sum())
    pairs_decoder = int((target * (target + 1) // 2).sum())
    pairs_cross = int((source * target).sum())
    encoder = model.encoder_layers * (int(source.sum()) * (2 * two_matrices + feed_forward) + pair * pairs_encoder)
    decoder = model.decoder_layers * (
        int(target.sum())
        * (3 * two_matrices + feed_forward)  # self-attention, and cross-attention's queries and output
        + int(source.sum()) * two_matrices  # cross-attention's keys and values
        + pair * (pairs_decoder + pairs_cross)
    )
    projection = 2 * int(target.sum()) * d * vocabulary_size
    return 3 * (encoder + decoder + projection)


def peak_flops(device: torch.device, precision: torch.dtype) -> float | None:
    """The device's peak in FLOP/s at `precision`; None where we know no published figure."""
    if device.type != "cuda" or precision != torch.bfloat16:
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """The bfloat16 peak of a device of that name."""
    words = name.replace("-", " ") + " "
    return next((peak for known, peak in PEAK_BFLOAT16.items() if words.startswith(known + " ")), None)


class Meter:
    """Counts what the updates of a log interval did."""

    def __init__(
        self, device: torch.device, precision: torch.dtype, devices: int, *, compiled: bool, seconds: float
    ) -> None:
        """`devices` alike train together; `seconds` of training are done."""
        self._compiled = compiled
        self._peak = (peak_flops(device, precision) or 0.0) * devices
        self._updates = self._tokens = self._flops = 0
        self._seconds, self._waited = seconds, 0.0  # before this interval
        self._compilations: int | None = None  # None before the end of the first interval, which warms up

    def count(self, tokens: int, flops: int) -> None:
        """Count one more update, of so many target tokens and operations."""
        self._updates += 1
        self._tokens += tokens
        self._flops += flops

    def read(self, seconds: float, waited: float) -> dict[str, float]:
        """The figures of the interval that ends now; the next one begins.

        Args:
            seconds: of training so far.
            waited: seconds of waiting for data so far.
        """
        took = max(seconds - self._seconds, 1e-9)
        rate = self._flops / took
        figures = {
            "target_tokens_per_second": self._tokens / took,
            "seconds_per_update": took / self._updates,
            "model_teraflops_per_second": rate / 1e12,
            "data_wait_share": (waited - self._waited) / took,
        }
        if self._peak:
            figures["model_flops_utilization"] = rate / self._peak
        if self._compiled:
            figures["compilations"] = self._compiled_graphs()
        self._updates = self._tokens = self._flops = 0
        self._seconds, self._waited = seconds, waited
        return figures

    def _compiled_graphs(self) -> int:
        made, before = compilations(), self._compilations
        if before is not None and made > before:
            log.warning("%d graphs were compiled again after the first log interval", made - before)
        self._compilations = made
        return made
