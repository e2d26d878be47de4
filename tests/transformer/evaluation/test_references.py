"""Several references for a sentence, in sacreBLEU's form and in the lines of reports/translations."""

import pytest
from sacrebleu.metrics import BLEU

from transformer.evaluation.references import first_of, reference_entries, reference_in, streams
from transformer.evaluation.scores import bleu_and_chrf, paired_bootstrap, quoted_bleus, sentence_chrf


def test_streams_are_as_long_as_the_test_set() -> None:
    assert streams(["a", "b"]) == [["a", "b"]]
    assert streams([["a", "A"], "b", ["c", "C", "cc"]]) == [["a", "b", "c"], ["A", None, "C"], [None, None, "cc"]]
    assert streams([]) == [[]]


def test_a_line_holds_what_was_put_into_it() -> None:
    for reference in ("a", ["a", "b"], ["a", "b", "c"]):
        assert reference_in(reference_entries(reference)) == reference
        assert first_of(reference) == "a"
    assert reference_entries("a") == reference_entries(["a"]) == {"reference": "a"}


def test_a_translation_like_any_reference_is_perfect() -> None:
    references = [["the cat sat on the mat", "a cat was sitting there"], "one two three four five"]
    hypotheses = ["a cat was sitting there", "one two three four five"]
    bleu, chrf = bleu_and_chrf(hypotheses, references, "de")
    assert (round(bleu, 6), round(chrf, 3)) == (100, 100)
    assert [round(one, 3) for one in sentence_chrf(hypotheses, references)] == [100, 100]
    assert {round(one.value, 6) for one in quoted_bleus(hypotheses, references, "de").values()} == {100}
    compared = paired_bootstrap(["x y z", "one two"], hypotheses, references, {"bleu": BLEU()}, 100)["bleu"]
    assert compared.baseline < 1 < compared.system == pytest.approx(100)
