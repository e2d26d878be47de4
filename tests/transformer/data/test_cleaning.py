"""Unicode cleaning of text."""

import random
import unicodedata

import pytest

from transformer.data.cleaning import clean_text, fold_text, resolve_entities


@pytest.mark.parametrize(
    ("dirty", "clean"),
    [
        ("Cafe\u0301", "Caf\u00e9"),  # NFC composes
        ("\u212b", "\u00c5"),  # the Ångström sign is the letter
        ("e\xad\u0301", "\u00e9"),  # composed after what stood between is gone
        ("Donau\xaddampf", "Donaudampf"),
        ("a\u200bb\ufeffc\u2060d", "abcd"),
        ("\u202aleft\u202c \u200fright", "left right"),
        ("bell\x07 null\x00 c1\x90 del\x7f", "bell null c1 del"),
        ("half \ud83d of a pair", "half of a pair"),
        (
            "  tabs\tand\nlines\r\nand\u00a0no-break\u3000wide\u2028separator\x85next ",
            "tabs and lines and no-break wide separator next",
        ),
        ("don\x92t \x93say\x94 5\x80", "don\u2019t \u201csay\u201d 5\u20ac"),  # Windows-1252 taken for Latin-1
        ("c\x9cur, \x8akoda\x81", "c\u0153ur, \u0160koda"),  # 0x81 is undefined there too
        ("wait\x85 \x93and\x85\x94", "wait\u2026 \u201cand\u2026\u201d"),  # an ellipsis where one can stand
        ("Q&amp;A", "Q&amp;A"),  # entities are resolved where text enters, not here
        ("", ""),
        (" \t ", ""),
    ],
)
def test_clean_text(dirty: str, clean: str) -> None:
    assert clean_text(dirty) == clean


@pytest.mark.parametrize("text", ["می\u200cخواهم", "ക്\u200dഷ", "👩\u200d🚀", "10 °C – „ja“ … x² ﬁ"])
def test_meaningful_characters_stay(text: str) -> None:
    assert clean_text(text) == unicodedata.normalize("NFC", text)


@pytest.mark.parametrize(
    ("dirty", "resolved"),
    [
        ("Q&amp;A &lt;b&gt; &#39;x&#x27; &eacute;", "Q&A <b> 'x' \u00e9"),
        ("&amp;amp; &amp;lt;b&amp;gt;", "&amp; &lt;b&gt;"),  # once
        ("/?a=1&copy=2&para", "/?a=1&copy=2&para"),  # no entities without a semicolon
        ("&unknown; & more; &notanentity; &copyright;", "&unknown; & more; &notanentity; &copyright;"),
        ("&nbsp;x&shy;y&NotEqualTilde;", "\u00a0x\u00ady\u2242\u0338"),
        ("&#146;&#x80;", "\u2019\u20ac"),  # as HTML reads them
        ("no ampersand", "no ampersand"),
    ],
)
def test_resolve_entities(dirty: str, resolved: str) -> None:
    assert resolve_entities(dirty) == resolved


@pytest.mark.parametrize("seed", range(20))
def test_cleaning_twice_is_cleaning_once(seed: int) -> None:
    pieces = [
        "&amp;",
        "lt;",
        "&",
        "\x85",
        "\x92",
        "\xad",
        "e",
        "\u0301",
        " ",
        "\u200b",
        "\x9d",
        "A",
        "\u1100",
        "\u1161",
        "\n",
    ]
    text = "".join(random.Random(seed).choices(pieces, k=60))
    assert clean_text(clean_text(text)) == clean_text(text)


def test_folding_ignores_letter_case_only() -> None:
    assert fold_text("Straße AUF") == fold_text("STRASSE auf")
    assert fold_text("a b") != fold_text("ab")
