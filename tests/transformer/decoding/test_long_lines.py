"""Sentences of many scripts, and what becomes of those that do not fit."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transformer.decoding.long_lines import split_long


def whole(_text: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Stop!" Then he left.', ['He said "Stop!"', "Then he left."]),
        ("Version 3.5 is out. It is z. B. fast.", ["Version 3.5 is out.", "It is z. B. fast."]),
        ("Dr. Smith met J. S. Bach, e.g. at 5 p.m. there.", ["Dr. Smith met J. S. Bach, e.g. at 5 p.m. there."]),
        ("See http://a.b/c?d=1!ex. Done", ["See http://a.b/c?d=1!ex.", "Done"]),
        ("Wait... What?! Yes…  No", ["Wait...", "What?!", "Yes…", "No"]),
        ("今天很好。我们走吧！你呢？「好。」走", ["今天很好。", "我们走吧！", "你呢？", "「好。」", "走"]),
        ("これはペンです。それは本です", ["これはペンです。", "それは本です"]),
        ("यह एक है। यह दूसरा है॥ ठीक", ["यह एक है।", "यह दूसरा है॥", "ठीक"]),
        ("هل أنت بخير؟ نعم، أنا بخير.", ["هل أنت بخير؟", "نعم، أنا بخير."]),
        ("Ինչպե՞ս ես։ Լավ եմ։", ["Ինչպե՞ս ես։", "Լավ եմ։"]),
    ],
)
def test_sentences_end_where_their_script_says(text: str, sentences: list[str]) -> None:
    assert split_long(text, whole) == sentences


def test_a_sentence_that_is_too_long_is_cut_at_clauses_then_words_then_characters() -> None:
    def fits(text: str) -> bool:
        return len(text) <= 12

    clauses = ["one, two,", "three:", "four five", "six seven"]
    assert split_long("one, two, three: four five six seven", fits) == clauses
    assert split_long("春天来了，花都开了，我们去公园里散步", fits) == ["春天来了，花都开了，", "我们去公园里散步"]
    assert split_long("x" * 30 + " y", fits) == ["x" * 12, "x" * 12, "xxxxxx y"]
    assert split_long("é" * 9, lambda text: len(text) <= 4) == ["é" * 4, "é" * 4, "é"]


@given(st.text(alphabet="ab .,;!?。、 ", max_size=60), st.integers(1, 9))
def test_nothing_is_lost_and_everything_fits(text: str, most: int) -> None:
    parts = split_long(text, lambda part: len(part) <= most)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= most for part in parts)
