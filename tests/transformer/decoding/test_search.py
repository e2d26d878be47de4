"""Beam search against searches that share no code with it: a plain loop, a list-based beam, all sequences."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from uneven_network import VOCABULARY_SIZE, change_logits, padded, sentences, settings, tiny_model

from transformer.decoding.hypothesis import Hypothesis, length_penalty
from transformer.decoding.search import beam_search
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK


@torch.no_grad()
def next_log_probs(model: Transformer, source: list[int], prefix: list[int]) -> Tensor:
    """log P(token | prefix, source) from the whole network, without any cache."""
    logits = model(torch.tensor([source]), torch.tensor([[BOS, *prefix]]))
    return logits[0, -1].double().log_softmax(0)


def plain_beam(
    model: Transformer, source: list[int], beam: int, alpha: float, longest: int
) -> list[tuple[float, list[int]]]:
    """Lists and sorting, one sentence, no bound: runs on until `beam` have finished or the length is reached."""
    going, finished = [(0.0, [])], []
    for length in range(1, longest + 1):
        candidates = []
        for log_prob, prefix in going:
            steps = next_log_probs(model, source, prefix).tolist()
            words = [EOS] if length == longest else [EOS, *range(4, len(steps))]
            candidates += [(log_prob + steps[word], [*prefix, word]) for word in words]
        candidates.sort(reverse=True)
        finished += [
            (log_prob / ((5 + length) / 6) ** alpha, tokens[:-1])
            for log_prob, tokens in candidates[:beam]
            if tokens[-1] == EOS
        ]
        if len(finished) >= beam:
            break
        going = [candidate for candidate in candidates if candidate[1][-1] != EOS][:beam]
    return sorted(finished, reverse=True)[:beam]


def assert_same(found: list[Hypothesis], expected: list[tuple[float, list[int]]]) -> None:
    assert [hypothesis.tokens for hypothesis in found] == [tokens for _, tokens in expected]
    assert [hypothesis.score for hypothesis in found] == pytest.approx([score for score, _ in expected], abs=1e-4)


def test_length_penalty_at_hand_computed_scores() -> None:
    assert length_penalty(1.0, 0.6) == 1.0
    assert length_penalty(7.0, 1.0) == 2.0
    assert length_penalty(19.0, 0.5) == 2.0
    assert length_penalty(13.0, 2.0) == 9.0
    assert length_penalty(13.0, 0.0) == 1.0
    assert length_penalty(25.0, 0.6) == pytest.approx(2.626527804403767)
    assert length_penalty(torch.tensor([1, 7]), 1.0).tolist() == [1.0, 2.0]


@pytest.mark.parametrize("seed", range(3))
def test_score_is_log_probability_over_length_penalty(seed: int) -> None:
    model, source = tiny_model(seed), sentences(seed, [5])[0]
    for hypothesis in beam_search(model, padded([source]), settings(alpha=0.6), nbest=4)[0]:
        target = [*hypothesis.tokens, EOS]
        log_prob = sum(float(next_log_probs(model, source, target[:i])[word]) for i, word in enumerate(target))
        assert hypothesis.score == pytest.approx(log_prob / ((5 + len(target)) / 6) ** 0.6, abs=1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_cached_decoding_equals_uncached(seed: int) -> None:
    model, rows = tiny_model(seed), sentences(seed, [7, 3])
    targets = torch.randint(4, VOCABULARY_SIZE, (2, 6), generator=torch.Generator().manual_seed(seed))
    targets[:, 0] = BOS
    with torch.no_grad():
        whole = model(padded(rows), targets)
        state = model.start(padded(rows))
        stepped = torch.stack([model.step(targets[:, i], state) for i in range(6)], dim=1)
        torch.testing.assert_close(stepped, whole, rtol=1e-4, atol=1e-4)

        state = model.start(padded(rows), beam=2).select(torch.tensor([3, 0]))
        stepped = torch.stack([model.step(targets[[1, 0], i], state) for i in range(6)], dim=1)
        torch.testing.assert_close(stepped, whole[[1, 0]], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_beam_of_one_is_greedy(seed: int) -> None:
    model, rows = tiny_model(seed), sentences(seed, [2, 9, 5, 1])
    found = beam_search(model, padded(rows), settings(beam=1, alpha=0.6, extra=12))
    for source, hypotheses in zip(rows, found, strict=True):
        tokens: list[int] = []
        while len(tokens) < len(source) + 12 - 1:
            log_probs = next_log_probs(model, source, tokens)
            log_probs[[PAD, UNK, BOS]] = -math.inf
            if int(log_probs.argmax()) == EOS:
                break
            tokens.append(int(log_probs.argmax()))
        assert [hypothesis.tokens for hypothesis in hypotheses] == [tokens]


@pytest.mark.parametrize(("seed", "alpha"), [(0, 0.0), (1, 0.6), (2, 1.0), (3, 2.0), (4, 0.6)])
def test_wide_beam_finds_the_best_of_all_sequences(seed: int, alpha: float) -> None:
    """With 3 words and at most 4 tokens there are 40 sequences; a beam of 64 must rank every one of them."""
    model, source = tiny_model(seed, vocabulary_size=7), sentences(seed, [2], 7)[0]
    everything = []
    for length in range(4):
        for words in itertools.product([4, 5, 6], repeat=length):
            target = [*words, EOS]
            with torch.no_grad():
                logits = model(torch.tensor([source]), torch.tensor([[BOS, *words]]))[0].double()
            log_prob = float(logits.log_softmax(1)[range(len(target)), target].sum())
            everything.append((log_prob / ((5 + len(target)) / 6) ** alpha, list(words)))
    everything.sort(reverse=True)
    assert len(everything) == 40
    found = beam_search(model, padded([source]), settings(beam=64, alpha=alpha, extra=1), nbest=64)[0]
    assert_same(found, everything)
    assert_same(beam_search(model, padded([source]), settings(beam=64, alpha=alpha, extra=1))[0], everything[:1])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("alpha", "sharpness"), [(0.0, 1), (0.6, 1), (1.5, 1), (1.5, 3), (3.0, 3)])
def test_batched_search_with_early_stop_equals_a_plain_search_without(
    seed: int, alpha: float, sharpness: float
) -> None:
    """Where the network is sure of its words and alpha is high, long hypotheses overtake early finished ones."""
    model, rows = tiny_model(seed), sentences(seed, [1, 8, 4, 2, 6])
    change_logits(model, lambda logits: sharpness * logits)
    params = settings(beam=3, alpha=alpha, extra=6)
    expected = [plain_beam(model, source, 3, alpha, len(source) + 6) for source in rows]
    for nbest in (1, 2, 3):
        found = beam_search(model, padded(rows), params, nbest)
        for hypotheses, best in zip(found, expected, strict=True):
            assert_same(hypotheses, best[:nbest])


def test_early_stop_saves_steps() -> None:
    rows = sentences(1, [1, 8, 4, 2, 6])

    def steps(nbest: int) -> int:
        model, count = tiny_model(1), 0

        def counted(logits: Tensor) -> Tensor:
            nonlocal count
            count += 1
            return logits

        change_logits(model, counted)
        longest = max(len(hypotheses[0].tokens) for hypotheses in beam_search(model, padded(rows), params, nbest))
        assert count > longest
        return count

    params = settings(extra=30)
    assert steps(1) < steps(4)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_sentence_translates_alone_as_in_a_batch(beam: int) -> None:
    model, rows = tiny_model(7), sentences(7, [1, 12, 3, 30, 5, 5])
    together = beam_search(model, padded(rows), settings(beam), nbest=beam)
    for source, hypotheses in zip(rows, together, strict=True):
        alone = beam_search(model, padded([source]), settings(beam), nbest=beam)[0]
        assert_same(hypotheses, [(hypothesis.score, hypothesis.tokens) for hypothesis in alone])


def test_seldom_dropping_finished_sentences_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = tiny_model(3), sentences(3, [1, 12, 3, 20, 5])
    every_step = beam_search(model, padded(rows), settings(extra=15), nbest=2)
    monkeypatch.setattr("transformer.decoding.search.steps_between_waits", lambda device: 7)
    assert beam_search(model, padded(rows), settings(extra=15), nbest=2) == every_step


@pytest.mark.parametrize("seed", range(4))
def test_nbest_is_sorted_distinct_and_free_of_special_tokens(seed: int) -> None:
    for hypotheses in beam_search(tiny_model(seed), padded(sentences(seed, [4, 9, 2])), settings(beam=5), nbest=5):
        scores = [hypothesis.score for hypothesis in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({tuple(hypothesis.tokens) for hypothesis in hypotheses}) == len(hypotheses) == 5
        assert all(word > EOS for hypothesis in hypotheses for word in hypothesis.tokens)


def reluctant_to_end(max_positions: int = 64) -> Transformer:
    """A network that finds the end of sentence, and only that, most unlikely."""
    model = tiny_model(11, max_positions=max_positions)
    change_logits(model, lambda logits: logits.index_fill(-1, torch.tensor([EOS]), -50.0))
    return model


@pytest.mark.parametrize("beam", [1, 4])
def test_longest_hypothesis_is_source_plus_extra(beam: int) -> None:
    rows = sentences(1, [2, 6])
    found = beam_search(reluctant_to_end(), padded(rows), settings(beam, extra=5), nbest=beam)
    for source, hypotheses in zip(rows, found, strict=True):
        assert [len(hypothesis.tokens) + 1 for hypothesis in hypotheses] == [len(source) + 5] * beam


def test_longest_hypothesis_never_exceeds_the_positions_of_the_model() -> None:
    found = beam_search(reluctant_to_end(max_positions=16), padded(sentences(1, [6])), settings(extra=50))
    assert len(found[0][0].tokens) + 1 == 16
