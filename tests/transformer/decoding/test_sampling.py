"""Draws against the distribution they are drawn from, and their independence of the batch."""

import math
from collections import Counter

import pytest
import torch
from uneven_network import change_logits, padded, sentences, settings, tiny_model

from transformer.decoding.sampling import sample
from transformer.decoding.translation import Sampling
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK

DRAWS = 4000


@pytest.mark.parametrize(("temperature", "top_k"), [(1.0, 0), (0.5, 0), (2.0, 0), (1.0, 3), (1.7, 5)])
def test_first_tokens_follow_the_softmax(temperature: float, top_k: int) -> None:
    model, source = tiny_model(2), sentences(2, [5])
    change_logits(model, lambda logits: 0.3 * logits)  # no token is nearly certain
    with torch.no_grad():
        logits = model(padded(source), torch.tensor([[BOS]]))[0, -1].double()
    logits[[PAD, UNK, BOS]] = -math.inf
    if top_k:
        logits[logits < logits.topk(top_k).values[-1]] = -math.inf
    expected = (logits / temperature).softmax(0)
    found = sample(model, padded(source), settings(extra=1), Sampling(1, temperature, top_k), [(1, 0)], DRAWS)[0]
    counts = Counter(one.tokens[0] if one.tokens else EOS for one in found)
    possible = [token for token, chance in enumerate(expected.tolist()) if chance > 0]
    assert set(counts) <= set(possible)
    often = [token for token in possible if DRAWS * expected[token] >= 5]  # for the others chi-square does not hold
    chi_square = sum(
        float((counts[token] - DRAWS * expected[token]) ** 2 / (DRAWS * expected[token])) for token in often
    )
    assert len(often) > 2
    assert chi_square < len(often) + 4 * math.sqrt(2 * len(often))  # four standard deviations


def test_second_tokens_follow_the_softmax_after_the_first() -> None:
    model, source = tiny_model(4), sentences(4, [5])
    change_logits(model, lambda logits: 0.3 * logits)
    found = sample(model, padded(source), settings(extra=3), Sampling(1), [(1, 0)], DRAWS)[0]
    first = Counter(one.tokens[0] for one in found if one.tokens).most_common(1)[0][0]
    after = Counter([*one.tokens, EOS][1] for one in found if one.tokens[:1] == [first])
    with torch.no_grad():
        logits = model(padded(source), torch.tensor([[BOS, first]]))[0, -1].double()
    logits[[PAD, UNK, BOS]] = -math.inf
    for token, chance in enumerate(logits.softmax(0).tolist()):
        error = 4 * math.sqrt(max(chance, 1e-9) * (1 - chance) / after.total()) + 1e-6
        assert after[token] / after.total() == pytest.approx(chance, abs=error)


def test_scores_are_the_models_own_whatever_chose_the_tokens() -> None:
    model, source = tiny_model(5), sentences(5, [4])
    for one in sample(model, padded(source), settings(alpha=0.6), Sampling(3, 0.7, 4), [(1, 0)], 8)[0]:
        target = [*one.tokens, EOS]
        with torch.no_grad():
            logits = model(padded(source), torch.tensor([[BOS, *one.tokens]]))[0].double()
        log_prob = float(logits.log_softmax(-1)[range(len(target)), target].sum())
        assert one.score == pytest.approx(log_prob / ((5 + len(target)) / 6) ** 0.6, abs=1e-4)


def test_a_sentence_draws_the_same_whatever_stands_beside_it() -> None:
    model, rows = tiny_model(6), sentences(6, [7, 2, 9])
    streams = [(1, 0), (2, 0), (3, 1)]
    together = sample(model, padded(rows), settings(), Sampling(1), streams, 3)
    for row, stream, found in zip(rows, streams, together, strict=True):
        assert [one.tokens for one in sample(model, padded([row]), settings(), Sampling(1), [stream], 3)[0]] == [
            one.tokens for one in found
        ]
        more = sample(model, padded([row]), settings(), Sampling(1), [stream], 5)[0]
        assert [one.tokens for one in more[:3]] == [one.tokens for one in found]
    same_line_twice = sample(model, padded([rows[0]] * 2), settings(), Sampling(1), [(1, 0), (2, 0)], 3)
    assert [one.tokens for one in same_line_twice[0]] != [one.tokens for one in same_line_twice[1]]
    assert sample(model, padded(rows), settings(), Sampling(2), streams, 3) != together
