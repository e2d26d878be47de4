"""Flash attention over packed sentences beside the formula, for each sentence alone, in float64."""

import numpy as np
import pytest
import torch
from on_device import DEVICE, LONGEST, distance
from torch import Tensor

from transformer.model.packing import Between, Spans, packed_attention

pytestmark = pytest.mark.cuda

HEADS = 4
QUERIES = (1, LONGEST, 1, 37, 128, 2, LONGEST, 129, 64, 1)
KEYS = (LONGEST, 1, 1, 50, 128, 33, LONGEST, 31, 65, 2)

# Query, key and value are given in bfloat16, so that only the kernel's own roundings differ: of the weights, of the
# result, and in the backward pass of their products.
OUTPUT, GRADIENT = 1e-2, 2e-2


def spans(lengths: tuple[int, ...]) -> Spans:
    offsets = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32, device=DEVICE)
    positions = torch.cat([torch.arange(length, device=DEVICE) for length in lengths])
    return Spans(offsets, positions, LONGEST)


def by_the_formula(query: Tensor, key: Tensor, value: Tensor, between: Between, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) V of one sentence after the other."""
    found = []
    for sentence in range(len(QUERIES)):
        ours, theirs = (slice(*of.offsets[sentence : sentence + 2].tolist()) for of in between)
        scores = query[0, :, ours] @ key[0, :, theirs].transpose(1, 2) / query.size(-1) ** 0.5
        if causal:
            scores = scores + torch.full(scores.shape[1:], -torch.inf, device=scores.device).triu(1)
        found.append(scores.softmax(-1) @ value[0, :, theirs])
    return torch.cat(found, dim=1)[None]


@pytest.mark.parametrize("head_size", [32, 64, 128])
@pytest.mark.parametrize("kind", ["encoder", "decoder", "cross"])
def test_packed_attention_is_that_of_each_sentence_alone(kind: str, head_size: int) -> None:
    queries = spans(QUERIES)
    between, causal = Between(queries, spans(KEYS) if kind == "cross" else queries), kind == "decoder"
    random = torch.Generator().manual_seed(1)

    def drawn(of: Spans) -> Tensor:
        numbers = torch.randn(1, HEADS, len(of.positions), head_size, generator=random)
        return numbers.to(DEVICE, torch.bfloat16).requires_grad_()

    inputs = [drawn(of) for of in (between.queries, between.keys, between.keys)]
    exact = [x.detach().double().requires_grad_() for x in inputs]
    upstream = torch.randn(inputs[0].shape, generator=random).to(DEVICE, torch.bfloat16)
    found, expected = packed_attention(*inputs, between, causal), by_the_formula(*exact, between, causal)
    assert distance(found, expected) <= OUTPUT
    gradients = torch.autograd.grad(found, inputs, upstream)
    exact_gradients = torch.autograd.grad(expected, exact, upstream.double())
    assert [far for far in map(distance, gradients, exact_gradients) if not far <= GRADIENT] == []
    # Sentences of a token attend to one key: that is its value, to the bit.
    if kind != "cross":
        assert torch.equal(found[0, :, 0], inputs[2][0, :, 0])
