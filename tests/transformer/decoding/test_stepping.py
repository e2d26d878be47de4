"""The search's own steps against the whole network without any cache, and the products that they are made of."""

import threading
import time
from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from uneven_network import padded, sentences

from transformer.decoding.ensemble import Ensemble
from transformer.decoding.packed_product import Product, counted
from transformer.decoding.side_by_side import side_by_side
from transformer.decoding.stepping import SteppingNetwork, refilled
from transformer.model.transformer import Transformer
from transformer.params import ModelParams
from transformer.tokens.vocabulary import BOS

VOCABULARY_SIZE = 30
CPU = torch.device("cpu")


def network(seed: int, norm: Literal["pre", "post"], key_size: int | None = None) -> Transformer:
    torch.manual_seed(seed)
    params = ModelParams(
        d_model=24, d_ff=48, heads=3, key_size=key_size, encoder_layers=2, decoder_layers=2,
        dropout=0.1, positions="learned", norm=norm, max_positions=64,
    )  # fmt: skip
    model = Transformer(params, VOCABULARY_SIZE).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn_like(weight) * (0.4 if weight.dim() > 1 else 0.8))
    return model


@pytest.mark.parametrize(("norm", "key_size"), [("pre", None), ("post", None), ("pre", 5)])
@pytest.mark.parametrize("count", [1, 2])
@torch.no_grad()
def test_log_probs_are_those_of_each_hypothesis_alone(
    norm: Literal["pre", "post"], key_size: int | None, count: int
) -> None:
    """Hypotheses are born, die, have several heirs and change places; sentences leave and take others' places."""
    models = [network(seed, norm, key_size) for seed in range(count)]
    rows = sentences(1, [3, 9, 1, 6, 9], VOCABULARY_SIZE)
    steps = SteppingNetwork.of(models[0] if count == 1 else Ensemble(models)).start(padded(rows))
    generator = torch.Generator().manual_seed(2)
    going, hypotheses = list(range(5)), [[[BOS]] for _ in rows]
    for length in range(1, 31):  # the store of keys and values grows twice
        steps.advance(torch.tensor([[tokens[-1] for tokens in hypotheses[one]] for one in going]))
        found = steps.log_probs(slice(1, None)).view(len(going) - 1, -1, VOCABULARY_SIZE)
        for one, log_probs in zip(going[1:], found, strict=True):
            source = torch.tensor([rows[one]] * len(hypotheses[one]))
            each = torch.stack([model(source, torch.tensor(hypotheses[one]))[:, -1].softmax(-1) for model in models])
            torch.testing.assert_close(log_probs, each.mean(0).log(), atol=2e-4, rtol=1e-4)
        parents = torch.randint(len(hypotheses[going[0]]), (len(going), 3), generator=generator)
        steps.follow(parents)
        words = torch.randint(4, VOCABULARY_SIZE, (5, 3), generator=generator).tolist()
        for one, places in zip(going, parents.tolist(), strict=True):
            hypotheses[one] = [
                [*hypotheses[one][place], word] for place, word in zip(places, words[one], strict=True)
            ]
        if length in (4, 12):  # the first of the sentences leaves, and then another
            kept = refilled(torch.arange(len(going)) != (0 if length == 4 else 2))
            steps.keep(kept)
            going = [going[index] for index in kept.tolist()]


def test_sentences_that_leave_are_replaced_by_the_last_ones() -> None:
    kept = torch.tensor([True, False, True, False, True, True])
    assert refilled(kept).tolist() == [0, 4, 2, 5]
    assert refilled(torch.tensor([True, True])).tolist() == [0, 1]


@pytest.mark.parametrize("relu", [False, True])
def test_a_packed_product_is_the_product_and_a_row_has_its_bits_whatever_is_beside_it(relu: bool) -> None:
    torch.manual_seed(3)
    weight, bias, x = torch.randn(70, 40), torch.randn(70), torch.randn(300, 40)
    product = Product(weight, bias, relu=relu)
    whole, expected = product(x), F.linear(x.double(), weight.double(), bias.double())
    torch.testing.assert_close(whole, (expected.relu() if relu else expected).float(), atol=1e-5, rtol=1e-5)
    for rows in (1, 3, 8, 65, 130):
        assert product(x[:rows]).shape == (rows, 70)
        apart = (product(x[:rows]) - whole[:rows]).abs().max()
        assert apart <= (1e-5 if product.packed is None else 0)
    with torch.autocast("cpu", torch.bfloat16):
        assert product(x).dtype == torch.bfloat16


def test_products_have_few_counts_of_rows() -> None:
    counts = [counted(rows) for rows in range(1, 1025)]
    assert all(rows <= padded <= max(rows + 7, rows * 5 / 4) for rows, padded in enumerate(counts, 1))
    assert len(set(counts)) < 25
    assert [counted(rows) for rows in (1, 8, 9, 33, 64, 65, 256)] == [8, 8, 16, 40, 64, 80, 256]


def test_batches_side_by_side_come_in_order_with_a_thread_each() -> None:
    before, both = torch.get_num_threads(), threading.Barrier(2, timeout=20)
    torch.set_num_threads(2)
    try:

        def compute(batch: int) -> tuple[int, int]:
            both.wait()  # passes only where two are computed at a time
            time.sleep(0.01 * (4 - batch))
            return batch, torch.get_num_threads()

        assert list(side_by_side(compute, [1, 2, 3, 4], CPU)) == [(1, 1), (2, 1), (3, 1), (4, 1)]
        assert list(side_by_side(lambda batch: (batch, torch.get_num_threads()), [1], CPU)) == [(1, 2)]
        later = list[int]()
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), later) == (2, [2])
        with pytest.raises(ZeroDivisionError):
            list(side_by_side(lambda batch: 1 // batch, [1, 0, 2], CPU))
    finally:
        torch.set_num_threads(before)
