"""The device of these tests: a GPU, or with DEVICE=cpu this CPU, for a rehearsal of all but what only a GPU has.

How far two computations of the same may lie apart, as relative Euclidean distance |a - b| / |b| of a whole tensor:

- bfloat16 keeps 8 bits: a rounding moves a number by up to 2^-9 = 0.2 %, and some thirty of them lie between a loss
  and the gradient of the first matrix, sqrt(30) x 0.2 % = 1 %. Far more comes of the ReLUs whose input lies within
  rounding of zero, some 0.3 % of them: each takes its whole term in or out, sqrt(0.3 %) = 5 % of the gradient of the
  matrix before it. The loss is a mean over hundreds of tokens, whose roundings cancel.
- float32 rounds by 2^-24 = 6e-8, and sums of a thousand terms in another order differ by some 1e-6.
"""

import os
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_inputs import TINY_PARAMS
from torch import Tensor

from benchmarks.newstest import Pieces
from transformer.params import Params, params_from
from transformer.tokens.ranges import offsets
from transformer.tokens.store import TokenSide, TokenSplit
from transformer.tokens.vocabulary import EOS
from transformer.training.run import Run

DEVICE = os.environ.get("DEVICE", "cuda")
ON_GPU = DEVICE == "cuda"
PIECES = 400
LONGEST = 256

# Of the loss, and of each parameter's gradient.
TOLERANCES = {"bf16": (1e-3, 8e-2), "fp32": (1e-5, 1e-4)}

only_on_a_gpu = pytest.mark.skipif(not ON_GPU, reason="a CPU has no allocator whose memory can be limited")


def params(model: dict[str, Any] | None = None, **training: Any) -> Params:
    """A network of one layer a side, by default of 2 heads of 32, without dropout, on DEVICE."""
    shape = {"d_model": 64, "d_ff": 128, "max_positions": LONGEST, **(model or {})}
    asked = {"precision": "auto", "micro_batch_tokens": 100_000, **training}
    content = {section: dict(values) for section, values in TINY_PARAMS.items()}
    content["model"] |= shape
    content["training"] |= asked
    content["averaging"]["min_updates_apart"] = 1
    content["compute"]["device"] = DEVICE
    return params_from(content, "tests/cuda")


def sentences(lengths: NDArray[np.int64], seed: int) -> TokenSide:
    """Random pieces, each sentence ended."""
    places = offsets(lengths)
    ids = np.random.default_rng(seed).integers(EOS + 1, PIECES, places[-1], dtype=np.uint32)
    ids[places[1:] - 1] = EOS
    return TokenSide(ids, places)


def split(pairs: int = 24) -> TokenSplit:
    """Pairs of many lengths, among them sentences of a single token and of as many as there are positions."""
    random = np.random.default_rng(1)
    source, target = random.integers(2, 40, pairs), random.integers(2, 40, pairs)
    source[:4], target[:4] = (1, LONGEST, 1, LONGEST), (LONGEST, 1, 1, LONGEST)
    return TokenSplit(sentences(source, 2), sentences(target, 3))


def run_of(asked: Params, pairs: int = 24) -> Run:
    """A training run on `split`."""
    of = split(pairs)
    return Run.start(asked.model, asked.training, asked.compute, Pieces(PIECES), of, of)


def distance(found: Tensor, expected: Tensor) -> float:
    """|found - expected| / |expected|, in float64; nan where a number is none."""
    found, expected = found.detach().double().cpu(), expected.detach().double().cpu()
    return float((found - expected).norm() / expected.norm())


def limit_memory(megabytes: int) -> None:
    """Let this process have so much more of the device's memory than it holds."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + megabytes * 1e6) / total)
