"""Writing systems: how long a text is in letters, and how much of it is in another script than its language's."""

import re
from functools import cache

import regex

from transformer.data.placeholders import without_placeholders
from transformer.languages import scripts_of

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# ISO 15924 codes that stand for several of Unicode's scripts, or for a style of one.
_UNICODE_SCRIPTS = {
    "Hans": ("Hani", "Bopo"),
    "Hant": ("Hani", "Bopo"),
    "Hanb": ("Hani", "Bopo"),
    "Jpan": ("Hani", "Hira", "Kana"),
    "Hrkt": ("Hira", "Kana"),
    "Kore": ("Hang", "Hani"),
    "Aran": ("Arab",),
    "Cyrs": ("Cyrl",),
    "Latf": ("Latn",),
    "Latg": ("Latn",),
}
_LETTER = re.compile(r"[^\W\d_]")
_ACRONYM = re.compile(r"\b[A-Z][A-Z0-9]+\b")


# One ideograph stands for about as much text as three letters of an alphabet, a kana for one and a half, a Hangul
# syllable for two: the medians of English characters per character in interface texts in Chinese, Japanese, Korean.
_IDEOGRAPH = re.compile(f"[{_HAN}]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
# The vowel signs of the Indic scripts and the points of Arabic and Hebrew belong to the letter before them. Thai and
# Lao save as much by writing no spaces and no other vowels.
_MARK = regex.compile(r"[\p{M}--[\p{Script=Thai}\p{Script=Laoo}]]", regex.V1)


# Without a character beyond these no text has marks, ideographs or letters of another script than Latin.
_BEYOND_LATIN = re.compile("[^\x00-\u024f]")


def length_in_letters(text: str) -> float:
    """The number of characters without marks; those that stand for syllables or words count as several letters."""
    if _BEYOND_LATIN.search(text) is None:
        return len(text)
    further = ((_IDEOGRAPH, 2.0), (_KANA, 0.5), (_HANGUL, 1.0), (_MARK, -1.0))
    return len(text) + sum(letters * len(characters.findall(text)) for characters, letters in further)


@cache
def foreign_letter(language: str) -> regex.Pattern[str] | None:
    """A letter of a script that the language is not written in; None where its scripts are unknown.

    Letters that several scripts share (Unicode's Common and Inherited, such as the long-vowel mark of kana) are at
    home everywhere.
    """
    names = {name for script in scripts_of(language) for name in _UNICODE_SCRIPTS.get(script, (script,))}
    try:
        own = "".join(rf"\p{{Script={name}}}" for name in sorted(names))
        return regex.compile(rf"[\p{{L}}--[{own}\p{{Script=Zyyy}}\p{{Script=Zinh}}]]", regex.V1) if names else None
    except regex.error:  # a script without characters in Unicode
        return None


def is_wrong_script(text: str, language: str) -> bool:
    """Whether less than half of the letters of `text`, by `length_in_letters`, belong to the language's scripts.

    Placeholders, tags and URLs do not count, and neither do acronyms in capitals ("USB"), which most languages
    leave in Latin letters. A text without other letters is never wrong, nor one in a language of unknown script.
    """
    foreign = foreign_letter(language)
    if foreign is None or ("Latn" in scripts_of(language) and _BEYOND_LATIN.search(text) is None):
        return False
    if foreign.search(text) is None:
        return False
    words = _ACRONYM.sub("", without_placeholders(text))
    in_another, in_any = ("".join(letter.findall(words)) for letter in (foreign, _LETTER))
    return 2 * length_in_letters(in_another) > length_in_letters(in_any)
