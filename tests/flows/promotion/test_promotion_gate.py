"""The gate on translations whose faults are planted one at a time; p-values against an independent bootstrap."""

import random
from collections.abc import Callable

import numpy as np
import pytest
import sacrebleu
from tiny_inputs import synthetic_pairs

from flows.promotion.gate import Check, Decision, TestTranslations, decide

SENTENCES = 200
SAMPLES = 300
RESAMPLES = 80  # of the slow oracle


def news(hypotheses: Callable[[int, str], str]) -> TestTranslations:
    """A test set of two origins, a third of it with a placeholder, translated by `hypotheses(row, reference)`."""
    sources, references = [], []
    for row, (source, target) in enumerate(synthetic_pairs(SENTENCES)):
        mark = " {name}" if row % 3 == 0 else ""
        sources.append(source + mark)
        references.append(target + mark)
    origins = ["news/a" if row % 2 else "news/b" for row in range(SENTENCES)]
    return TestTranslations(sources, references, origins, [hypotheses(*item) for item in enumerate(references)])


def worse(share: float, seed: int = 1) -> Callable[[int, str], str]:
    """The reference with two words swapped in a share of the sentences: same length, same words."""
    chosen = random.Random(seed)

    def translate(_row: int, reference: str) -> str:
        words = reference.split(" ")
        if chosen.random() < share:
            words[1], words[3] = words[3], words[1]
        return " ".join(words)

    return translate


def gate(candidate: TestTranslations, champion: TestTranslations | None) -> Decision:
    sets = {"news": candidate}
    return decide(sets, {"news": champion} if champion else None, "de", 0.05, SAMPLES)


def failed(decision: Decision) -> set[str]:
    return {check.name for check in decision.checks if not check.passed}


def check(decision: Decision, name: str) -> Check:
    return next(check for check in decision.checks if check.name == name)


def test_an_equal_and_a_better_candidate_pass() -> None:
    champion = news(worse(0.3))
    for candidate in (champion, news(worse(0.1))):
        decision = gate(candidate, champion)
        assert decision.promote
        assert decision.reason == "not significantly worse, no guard fails"


def test_a_slightly_worse_candidate_passes_and_a_much_worse_one_does_not() -> None:
    champion = news(worse(0.3, seed=1))
    slightly, much = news(worse(0.31, seed=2)), news(worse(0.8, seed=3))
    assert gate(slightly, champion).promote
    decision = gate(much, champion)
    assert not decision.promote
    assert check(decision, "bleu").candidate < check(decision, "bleu").champion
    assert "news: bleu" in decision.reason
    assert "significantly below the champion's" in decision.reason


def test_the_score_and_the_p_value_are_those_of_an_independent_bootstrap() -> None:
    champion, candidate = news(worse(0.3, seed=1)), news(worse(0.36, seed=5))
    found = check(gate(candidate, champion), "bleu")
    assert found.candidate == pytest.approx(
        sacrebleu.corpus_bleu(candidate.hypotheses, [candidate.references]).score, abs=1e-3
    )
    rows = np.random.default_rng(7).integers(0, SENTENCES, size=(RESAMPLES, SENTENCES))

    def scores(side: TestTranslations) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        return np.array([
            sacrebleu.corpus_bleu([side.hypotheses[i] for i in sample], [[side.references[i] for i in sample]]).score
            for sample in rows
        ])  # fmt: skip

    differences = np.abs(scores(candidate) - scores(champion))
    real = abs(found.candidate - (found.champion or 0.0))
    expected = (np.sum(differences - differences.mean() > real) + 1) / (RESAMPLES + 1)
    assert found.p_value == pytest.approx(expected, abs=0.12)


def test_significance_decides() -> None:
    champion, candidate = news(worse(0.3, seed=1)), news(worse(0.5, seed=3))
    p_value = check(gate(candidate, champion), "bleu").p_value
    assert p_value is not None
    below, above = (
        decide({"news": candidate}, {"news": champion}, "de", level, SAMPLES)
        for level in (p_value / 2, min(1.0, p_value * 2))
    )
    assert check(below, "bleu").passed
    assert not check(above, "bleu").passed


def test_a_drop_in_one_origin_is_found_where_the_whole_hides_it() -> None:
    small = 24  # of 200 sentences
    champion, candidate = news(worse(0.4, seed=1)), news(worse(0.15, seed=2))
    origins = ["news/small" if row < small else "news/large" for row in range(SENTENCES)]
    hypotheses = [" ".join(text.split(" ")[::-1]) for text in candidate.hypotheses[:small]]
    candidate = TestTranslations(
        candidate.sources, candidate.references, origins, hypotheses + candidate.hypotheses[small:]
    )
    champion = TestTranslations(champion.sources, champion.references, origins, champion.hypotheses)
    decision = gate(candidate, champion)
    assert failed(decision) == {"chrf of news/small"}
    assert not decision.promote


FAULTS: dict[str, Callable[[int, str], str]] = {
    "empty": lambda row, text: "" if row % 25 == 0 else text,
    "repetitive": lambda row, text: f"{text} ja ja ja" if row % 25 == 0 else text,
    "lost_placeholders": lambda row, text: text.replace("{name}", "{ name") if row % 2 == 0 else text,
    "length_deviation": lambda _row, text: text.split(" ", 2)[2],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_guard_sees_its_fault(fault: str) -> None:
    decision = gate(news(FAULTS[fault]), news(lambda _row, text: text))
    assert fault in failed(decision)
    assert f"news: {fault}" in decision.reason
    clean = {"empty", "repetitive", "lost_placeholders"} - {fault}
    assert not clean & failed(decision)


def test_a_fault_that_the_champion_shares_does_not_block() -> None:
    for fault in FAULTS.values():
        assert gate(news(fault), news(fault)).promote


def test_without_a_champion_the_guards_apply_alone() -> None:
    decision = gate(news(worse(0.9)), None)
    assert decision.promote
    assert decision.reason == "no champion yet"
    assert {check.name for check in decision.checks} == set(FAULTS)
    refused = gate(news(lambda _row, _text: ""), None)
    assert not refused.promote
    assert {"empty", "length_deviation"} <= failed(refused)


def test_translations_of_different_test_sets_are_not_compared() -> None:
    one, other = news(worse(0.1)), news(worse(0.1))
    other.references[0] = "changed"
    with pytest.raises(ValueError, match="different test sets"):
        gate(one, other)
