"""How many operations an update needs, and how many a device can do: their ratio is model FLOPs utilisation."""

import numpy as np
import torch
from numpy.typing import NDArray

from transformer.model.params import ModelParams

# Dense bfloat16 products with float32 sums, FLOP/s, by the words that the device's name begins with. From NVIDIA's
# data sheets of the products (figures with sparsity halved).
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
    d, feed_forward = model.d_model, 4 * model.d_model * model.d_ff
    source, target = source_lengths.astype(np.int64), target_lengths.astype(np.int64)
    # A sentence's keys are multiplied with its queries, and the weights with its values: 2 d each, a pair of tokens.
    pairs_encoder = int((source * source).sum())
    pairs_decoder = int((target * (target + 1) // 2).sum())
    pairs_cross = int((source * target).sum())
    encoder = model.encoder_layers * (int(source.sum()) * (8 * d * d + feed_forward) + 4 * d * pairs_encoder)
    decoder = model.decoder_layers * (
        int(target.sum()) * (12 * d * d + feed_forward)  # self-attention's four matrices, cross-attention's q and out
        + int(source.sum()) * 4 * d * d  # cross-attention's keys and values
        + 4 * d * (pairs_decoder + pairs_cross)
    )
    projection = 2 * int(target.sum()) * d * vocabulary_size
    return 3 * (encoder + decoder + projection)


def peak_flops(device: torch.device, precision: torch.dtype) -> float | None:
    """The device's products a second at `precision`; None where no published figure is known here."""
    if device.type != "cuda" or precision != torch.bfloat16:
        return None
    return named_peak(torch.cuda.get_device_name(device))


def named_peak(name: str) -> float | None:
    """The bfloat16 peak of a device of that name."""
    words = name.replace("-", " ") + " "
    return next((peak for known, peak in PEAK_BFLOAT16.items() if words.startswith(known + " ")), None)
