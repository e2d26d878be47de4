"""Test sets of a few lines and outputs that are empty, equal or wrong throughout still give numbers."""

import math
import random

import numpy as np
import pytest
from sacrebleu.metrics import BLEU, CHRF, TER

from transformer.evaluation.analysis import by_length, by_origin
from transformer.evaluation.scores import Score, paired_bootstrap, quoted_bleus, score_corpus, sentence_chrf

SETS = {
    "one line": (["a b"], ["a b"]),
    "one wrong line": (["q"], ["a b"]),
    "two lines": (["a b", "c"], ["a", "c d"]),
    "three, an empty reference": (["a b", "c", "d"], ["x y", "", "z"]),
    "three, an empty hypothesis": (["a b", "", "d"], ["a b", "c", "z"]),
    "three, one that matches": (["the cat sat on the mat", "q", "w"], ["the cat sat on the mat", "a", "b"]),
    "all hypotheses empty": (["", "", ""], ["a b c", "d", "e"]),
    "all references empty": (["a", "b"], ["", ""]),
    "everything empty": (["", ""], ["", ""]),
    "all equal": (["the cat sat on the mat"] * 3, ["the cat sat on the mat"] * 3),
    "none matching": (["q", "w", "e"], ["aaa", "bbb", "ccc"]),
}


@pytest.mark.parametrize("language", ["de", "zh", "ja"])
@pytest.mark.parametrize("name", SETS)
def test_degenerate_sets_have_scores(name: str, language: str) -> None:
    hypotheses, references = SETS[name]
    scores = score_corpus(hypotheses, references, language, 200)
    for one in (scores.bleu, scores.chrf, scores.ter):
        assert all(type(number) is float and math.isfinite(number) for number in (one.value, one.low, one.high))
    # sacreBLEU without its bootstrap, which is what fails, is the oracle of the values.
    assert scores.chrf.value == pytest.approx(CHRF().corpus_score(hypotheses, [references]).score)
    assert scores.ter.value == pytest.approx(TER().corpus_score(hypotheses, [references]).score)
    assert len(sentence_chrf(hypotheses, references)) == len(references)
    assert quoted_bleus(hypotheses, references, language)
    for groups in (
        by_length(references, hypotheses, references, [2, 4], language),
        by_origin(["origin"] * len(references), hypotheses, references, language),
    ):
        assert sum(group.sentences for group in groups.values()) == len(references)
    metrics = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
    for comparison in paired_bootstrap(hypotheses, ["other"] * len(references), references, metrics, 200).values():
        assert 0 < comparison.p_value <= 1


@pytest.mark.parametrize("seed", range(5))
def test_intervals_are_those_of_a_bootstrap_written_apart(seed: int) -> None:
    """The 95 % interval of sacreBLEU: half the width between the order statistics, about the mean."""
    random_ = random.Random(seed)
    words = ["a", "b", "c", "the", "mat", ""]
    hypotheses, references = ([" ".join(random_.choices(words, k=5)).strip() for _ in range(4)] for _ in range(2))
    score = score_corpus(hypotheses, references, "de", 100).ter
    assert isinstance(score, Score)
    assert score.low <= score.high
    resampled = sorted(_resampled_ter(hypotheses, references, 100))
    mean, half = sum(resampled) / 100, (resampled[97] - resampled[2]) / 2
    assert (score.low, score.high) == pytest.approx((mean - half, mean + half), rel=1e-5)


def _resampled_ter(hypotheses: list[str], references: list[str], samples: int) -> list[float]:
    choices = np.random.default_rng(12345).choice(len(references), size=(samples, len(references)), replace=True)
    return [
        TER().corpus_score([hypotheses[row] for row in rows], [[references[row] for row in rows]]).score
        for rows in choices
    ]
