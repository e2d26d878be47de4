"""Forced beginnings, protected strings and ensembles against all sequences, scored by the whole network."""

import pytest
import torch
from spelled_network import SPELLED, all_sequences, network
from uneven_network import padded, sentences, settings, tiny_model

from transformer.data.placeholders import KINDS, not_kept
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.prefix import Beginnings, as_spelled
from transformer.decoding.protection import Wanted, protected_search
from transformer.decoding.search import beam_search
from transformer.decoding.spelling import Spelling

SPELLING = Spelling(SPELLED)
LONGEST = 5  # tokens: 2801 sequences


def source(seed: int) -> list[int]:
    return sentences(seed, [2], SPELLED.size)[0]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("prefix", ["a", "ab", "a ", "{n", "ab 7", "abb"])
def test_the_best_of_all_that_begin_so_is_found(seed: int, prefix: str) -> None:
    """ "ab" is a piece, or "a" and "b": both must be found, and with a space behind "a" only words that are "a"."""
    everything = all_sequences([network(seed)], source(seed), LONGEST, alpha=0.6)
    spelled = as_spelled(prefix)
    expected = [one for one in everything if SPELLING.text(one[1]).startswith(spelled)][:3]
    params, beginnings = settings(beam=64, alpha=0.6, extra=LONGEST - 3), Beginnings(SPELLING, ["", prefix])
    assert beginnings.lengths[1] <= 3  # so that the longest length follows from the source
    rows = [source(seed + 50), source(seed)]
    unforced, forced = beam_search(network(seed), padded(rows), params, 3, beginnings)
    assert [one.tokens for one in forced] == [tokens for _, tokens, _ in expected]
    assert [one.score for one in forced] == pytest.approx([score for score, _, _ in expected], abs=1e-4)
    assert unforced == beam_search(network(seed), padded(rows[:1]), params, 3)[0]


def test_a_beginning_is_cleaned_and_says_whether_its_word_is_whole() -> None:
    assert as_spelled("  Das\u200b  Pass") == b" Das Pass"
    assert as_spelled("Das ") == b" Das "
    assert as_spelled(" \t") == as_spelled("") == b""


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("text", ["a {n}", "7 7", "7 a", "ab"])
def test_the_best_of_all_that_keep_everything_is_found(seed: int, text: str) -> None:
    everything = list(all_sequences([network(seed)], source(seed), LONGEST, alpha=0.6))
    kept = [one for one in everything if not not_kept(text, one[2], KINDS)]
    assert len(kept) > 0
    wanted = Wanted(SPELLING, text, KINDS)
    params = settings(beam=64, alpha=0.6, extra=LONGEST - 3)
    found = protected_search(network(seed), padded([source(seed)]), params, wanted, SPELLING)
    assert found[0].tokens == kept[0][1]
    assert found[0].score == pytest.approx(kept[0][0], abs=1e-4)
    assert not any(not_kept(text, SPELLED.decode(one.tokens), KINDS) for one in found)


@pytest.mark.parametrize("seed", range(10))
def test_a_narrow_beam_keeps_everything_too(seed: int) -> None:
    wanted, params = Wanted(SPELLING, "{n} a {nb} 7 {n}", KINDS), settings(beam=2, extra=14)
    for one in protected_search(network(seed), padded([source(seed)]), params, wanted, SPELLING):
        assert not_kept("{n} a {nb} 7 {n}", SPELLED.decode(one.tokens), KINDS) == []


@pytest.mark.parametrize("seed", range(3))
def test_what_must_be_kept_comes_after_what_it_must_begin_with(seed: int) -> None:
    wanted, params = Wanted(SPELLING, "{n}", KINDS), settings(beam=4, extra=8)
    found = protected_search(network(seed), padded([source(seed)]), params, wanted, SPELLING, "ab 7")
    texts = [SPELLED.decode(one.tokens) for one in found]
    assert texts
    assert all(text.startswith("ab 7") and text.count("{n}") == 1 for text in texts)


@pytest.mark.parametrize("seed", range(3))
def test_an_ensemble_finds_the_best_by_mean_probability(seed: int) -> None:
    models = [network(seed), network(seed + 20), network(seed + 40)]
    expected = list(all_sequences(models, source(seed), LONGEST, alpha=0.6))[:3]
    found = beam_search(Ensemble(models), padded([source(seed)]), settings(64, 0.6, LONGEST - 3), 3)[0]
    assert [one.tokens for one in found] == [tokens for _, tokens, _ in expected]
    assert [one.score for one in found] == pytest.approx([score for score, _, _ in expected], abs=1e-4)


@pytest.mark.parametrize("beam", [1, 4])
def test_a_model_with_itself_finds_what_it_finds_alone(beam: int) -> None:
    model, rows = tiny_model(3), padded(sentences(3, [7, 2, 9, 1]))
    alone = beam_search(model, rows, settings(beam), beam)
    twice = beam_search(Ensemble([model, model]), rows, settings(beam), beam)
    assert [[one.tokens for one in found] for found in twice] == [[one.tokens for one in found] for found in alone]
    scores = [[one.score for found in both for one in found] for both in (twice, alone)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_an_ensemble_reads_no_further_than_the_shortest_of_its_models() -> None:
    models = [tiny_model(1, max_positions=64), tiny_model(2, max_positions=16)]
    assert Ensemble(models).params.max_positions == 16
    state = Ensemble(models).start(torch.tensor([[5, 3]]), 2)
    assert len(state.past) == sum(model.params.decoder_layers for model in models)
