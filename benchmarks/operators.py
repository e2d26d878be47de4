"""Operators of an update that have more than one way to be computed, each way timed alone: what to use where.

    python -m benchmarks.operators --preset wmt14-en-de-base

Sentences have newstest's lengths, as many as an update has. docs/scale.md says what the rows decide. A way that the
device lacks has no figure.
"""

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.newstest import sentence_lengths
from benchmarks.presets import add_preset, preset_params
from transformer.model.device import select_device
from transformer.model.packing import Between, Spans, packed_attention
from transformer.params import Params
from transformer.tokens.ranges import offsets, ranges
from transformer.training.batching import PACKED_STEP

REPEATS = {"cpu": 2, "cuda": 20}
WIDTHS = (16, 32, 64, 128)  # that sentences are padded to; longer ones to the longest


def main() -> None:
    """Time every way, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_preset(parser)
    parser.add_argument("--out", type=Path, help="a JSON file for the figures, in seconds")
    asked = parser.parse_args()
    found = measure(preset_params(asked.preset))
    for name, seconds in found.items():
        print(f"{name:58} {'not on this device' if seconds is None else f'{1e3 * seconds:9.3f} ms'}", flush=True)
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1) + "\n")


def measure(params: Params) -> dict[str, float | None]:
    """Seconds of each way, the median of a few runs; None where it does not run on this device."""
    device = select_device(params.compute.device)
    torch.manual_seed(1)
    ways = {**attention_ways(params, device), **gradient_ways(params, device), **optimizer_ways(params, device)}
    return {name: timed(way, device) for name, way in ways.items()}


def timed(way: Callable[[], object] | None, device: torch.device) -> float | None:
    """The median of a few runs after the first one, which compiles."""
    if way is None:
        return None
    seconds = []
    for _ in range(1 + REPEATS.get(device.type, 2)):
        begun = time.perf_counter()
        way()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[1:])


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """torch's deterministic mode switched on or off for a while."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(wanted)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def attention_ways(params: Params, device: torch.device) -> dict[str, Callable[[], object]]:
    """Self-attention of an update's targets, forward and backward: one of the network's attentions."""
    lengths, spans = packed_spans(params, device)
    heads, width = params.model.heads, params.model.d_v
    precision = torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = [
        torch.randn(1, heads, len(spans.positions), width, device=device, dtype=precision, requires_grad=True)
        for _ in range(3)
    ]

    def both_ways(attend: Callable[[], Tensor], wanted: bool) -> Callable[[], object]:
        def run() -> object:
            with deterministic(wanted):
                return torch.autograd.grad(attend().float().sum(), rows)

        return run

    between = Between(spans, spans)

    def packed() -> Tensor:
        return packed_attention(*rows, between, causal=True)

    places = padded_places(lengths, device)
    return {
        "attention: packed, as training does": both_ways(packed, True),
        "attention: packed, sums in any order": both_ways(packed, False),
        "attention: padded to 16, 32, 64, 128, plain products": both_ways(
            lambda: padded_attention(rows, places), True
        ),
    }


def packed_spans(params: Params, device: torch.device) -> tuple[np.ndarray, Spans]:
    """The lengths of an update's targets, and where they stand in a row."""
    tokens = params.training.batch_target_tokens
    lengths = sentence_lengths(tokens)[1]
    lengths = lengths[: max(1, int(np.searchsorted(lengths.cumsum(), tokens)))]
    width = -(-(int(lengths.sum()) + 1) // PACKED_STEP) * PACKED_STEP
    lengths = np.append(lengths, width - lengths.sum())  # padding is a sentence of its own
    positions = ranges(np.zeros_like(lengths), lengths)
    edges = torch.from_numpy(offsets(lengths).astype(np.int32)).to(device)
    return lengths, Spans(edges, torch.from_numpy(positions).to(device), params.model.max_positions)


def padded_places(lengths: np.ndarray, device: torch.device) -> list[Tensor]:
    """For each width, the places in the row of the sentences padded to it: (sentences, width), -1 for padding."""
    starts = offsets(lengths)[:-1]
    limits = [0, *(width for width in WIDTHS if width < lengths.max()), int(lengths.max())]
    found = []
    for narrow, width in itertools.pairwise(limits):
        chosen = np.flatnonzero((lengths > narrow) & (lengths <= width))
        inside = np.arange(width) < lengths[chosen, None]
        places = np.where(inside, starts[chosen, None] + np.arange(width), -1)
        found.append(torch.from_numpy(places).to(device))
    return found


def padded_attention(rows: list[Tensor], classes: list[Tensor]) -> Tensor:
    """Causal attention of each sentence to itself, the sentences gathered in padded batches of like length."""
    query, key, value = (row[0].transpose(0, 1) for row in rows)  # (tokens, heads, width)
    output = torch.zeros_like(query)
    for places in classes:
        taken = places.clamp(min=0)
        q, k, v = (row[taken].transpose(1, 2) for row in (query, key, value))
        scores = q @ k.transpose(2, 3) / q.size(-1) ** 0.5
        later = torch.ones(places.size(1), places.size(1), device=places.device, dtype=torch.bool).triu(1)
        heads = scores.masked_fill(later, -torch.inf).softmax(-1) @ v  # padding stands last: causality hides it
        real = places >= 0
        output = output.index_put((places[real],), heads.transpose(1, 2)[real])
    return output.transpose(0, 1)[None]


def gradient_ways(params: Params, device: torch.device) -> dict[str, Callable[[], object] | None]:
    """The gradient of the embedding matrix from those of an update's target vectors."""
    pieces, tokens = params.tokenization.vocabulary_size, params.training.batch_target_tokens
    # Frequencies fall with the rank, faster than in text: one piece has 18 % of all, and its sum is the longest.
    ids = torch.from_numpy(np.random.default_rng(1).zipf(1.2, tokens) % pieces).to(device)
    gradients = torch.randn(tokens, params.model.d_model, device=device)

    def put() -> Tensor:
        return gradients.new_zeros(pieces, gradients.size(1)).index_put((ids,), gradients, accumulate=True)

    def dense() -> Tensor:
        found: Tensor = torch.ops.aten.embedding_dense_backward(gradients, ids, pieces, -1, False)
        return found

    def product() -> Tensor:
        chosen = F.one_hot(ids, pieces).to(torch.bfloat16)
        return chosen.T @ gradients.to(torch.bfloat16)

    def strict(way: Callable[[], Tensor]) -> Callable[[], object]:
        def run() -> object:
            with deterministic(True):
                return way()

        return run

    return {
        "embedding's gradient: index_put, as torch.compile does": strict(put),
        "embedding's gradient: embedding_dense_backward, as eager": strict(dense),
        "embedding's gradient: product with one-hot rows": strict(product) if device.type == "cuda" else None,
    }


def optimizer_ways(params: Params, device: torch.device) -> dict[str, Callable[[], object] | None]:
    """Adam's step on the network's weights, and on as many in a single tensor."""
    from transformer.model.transformer import Transformer

    weights = list(Transformer(params.model, params.tokenization.vocabulary_size).to(device).parameters())
    flat = [torch.nn.Parameter(torch.zeros(sum(weight.numel() for weight in weights), device=device))]

    def step(parameters: list[torch.nn.Parameter], **options: bool) -> Callable[[], object]:
        for parameter in parameters:
            parameter.grad = torch.full_like(parameter, 1e-3)
        return torch.optim.Adam(parameters, lr=1e-4, **options).step

    return {
        "Adam: fused, as training does": step(weights, fused=True),
        "Adam: one tensor after the other": step(weights, foreach=False),
        "Adam: fused, all weights in one tensor": step(flat, fused=True),
    }


if __name__ == "__main__":
    main()
