"""Unicode cleaning of text."""

import unicodedata

import pytest

from transformer.data.cleaning import clean_text, fold_text


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Cafe\u0301", "Caf\u00e9"),  # NFC composes
        ("\u212b", "\u00c5"),  # the Ångström sign is the letter
        ("e\xad\u0301", "\u00e9"),  # composed after what stood between is gone
        ("Donau\xaddampf", "Donaudampf"),
        ("a\u200bb\ufeffc\u2060d", "abcd"),
        ("\u202aleft\u202c \u200fright", "left right"),
        ("bell\x07 null\x00 c1\x9f del\x7f", "bell null c1 del"),
        ("half \ud83d of a pair", "half of a pair"),
        (
            "  tabs\tand\nlines\r\nand\u00a0no-break\u3000wide\u2028separator\x85next ",
            "tabs and lines and no-break wide separator next",
        ),
        ("Q&amp;A &lt;b&gt; &#39;x&#x27; &eacute;", "Q&A <b> 'x' \u00e9"),
        ("&amp;amp;", "&amp;"),  # once
        ("/?a=1&copy=2&para", "/?a=1&copy=2&para"),  # no entities without a semicolon
        ("&unknown; & more;", "&unknown; & more;"),
        ("&nbsp;x&shy;y&nbsp;", "xy"),
        ("", ""),
        (" \t ", ""),
    ],
)
def test_clean_text(dirty: str, clean: str) -> None:
    assert clean_text(dirty) == clean


@pytest.mark.parametrize("text", ["می\u200cخواهم", "ക്\u200dഷ", "👩\u200d🚀", "10 °C – „ja“ … x² ﬁ"])
def test_meaningful_characters_stay(text: str) -> None:
    assert clean_text(text) == unicodedata.normalize("NFC", text)


def test_folding_ignores_letter_case_only() -> None:
    assert fold_text("Straße AUF") == fold_text("STRASSE auf")
    assert fold_text("a b") != fold_text("ab")
