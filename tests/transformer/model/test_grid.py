"""Attention over sentences in a grid is the paper's formula of each sentence alone, and so is its gradient."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from transformer.model.grid import Grid, grid_attention, grid_of

HEADS, KEY_SIZE, VALUE_SIZE = 2, 6, 10
SOURCES, TARGETS = [3, 17, 1, 9], [5, 2, 20, 4]  # tokens


def alone(query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
    """softmax(Q K^T / sqrt(d_k)) V (section 3.2.1) of one sentence: (heads, query tokens, d_v)."""
    scores = query @ key.transpose(1, 2) / KEY_SIZE**0.5
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape[1:], dtype=torch.bool).triu(1), -torch.inf)
    return scores.softmax(-1) @ value


def spans(grid: Grid, lengths: list[int]) -> list[slice]:
    return [slice(i * grid.length, i * grid.length + length) for i, length in enumerate(lengths)]


@pytest.mark.parametrize(
    ("queries", "keys", "causal"), [(SOURCES, SOURCES, False), (TARGETS, TARGETS, True), (TARGETS, SOURCES, False)]
)
@pytest.mark.parametrize("extra", [0, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_and_its_gradient(
    queries: list[int], keys: list[int], causal: bool, extra: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(3)
    lengths = queries, keys
    tokens = [len(of) * max(of) + extra for of in lengths]
    grids = [grid_of(torch.tensor(of), width) for of, width in zip(lengths, tokens, strict=True)]
    query_tokens, key_tokens = tokens
    query = torch.randn(1, HEADS, query_tokens, KEY_SIZE).to(dtype).requires_grad_()
    key = torch.randn(1, HEADS, key_tokens, KEY_SIZE).to(dtype).requires_grad_()
    value = torch.randn(1, HEADS, key_tokens, VALUE_SIZE).to(dtype).requires_grad_()
    found = grid_attention(query, key, value, *grids, causal)
    assert found.shape == (1, HEADS, query_tokens, VALUE_SIZE)
    assert found.isfinite().all()

    of_queries, of_keys = (spans(grid, of) for grid, of in zip(grids, lengths, strict=True))
    exact = [x.detach().double().requires_grad_() for x in (query, key, value)]
    expected = [
        alone(exact[0][0, :, here], *(x[0, :, there] for x in exact[1:]), causal)
        for here, there in zip(of_queries, of_keys, strict=True)
    ]
    allowed = {"atol": 1e-5, "rtol": 1e-4} if dtype == torch.float32 else {"atol": 0.04, "rtol": 0.02}
    weights = torch.randn(1, HEADS, query_tokens, VALUE_SIZE)
    total, exact_total = torch.zeros(()), torch.zeros((), dtype=torch.float64)
    for here, heads in zip(of_queries, expected, strict=True):
        torch.testing.assert_close(found[0, :, here], heads, check_dtype=False, **allowed)
        total = total + (found[0, :, here] * weights[0, :, here]).sum()
        exact_total = exact_total + (heads * weights[0, :, here]).sum()
    gradients = torch.autograd.grad(total, (query, key, value))
    for gradient, right in zip(gradients, torch.autograd.grad(exact_total, exact), strict=True):
        torch.testing.assert_close(gradient, right, check_dtype=False, **allowed)


def test_a_grid_by_hand() -> None:
    grid = grid_of(torch.tensor([2, 3]), 8)
    assert (grid.sentences, grid.length) == (2, 3)
    assert grid.positions.tolist() == [0, 1, 2, 0, 1, 2, 0, 0]
    hidden = grid.padding.isneginf()
    assert [row[0].tolist().index(True) for row in hidden] == [2, 3]
    assert all(bool(later) >= bool(earlier) for row in hidden for earlier, later in pairwise(row[0]))
