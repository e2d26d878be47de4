"""Writing systems: which script a language is written in, and how much of a sentence is in another one."""

import re
from functools import cache

from transformer.data.prepare.placeholders import without_placeholders

_HAN = "\u3005-\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
# Unicode blocks of each script, as the inside of a regular expression's character class.
_BLOCKS = {
    "Latn": "A-Za-z\xaa\xb5\xba\xc0-\xd6\xd8-\xf6\xf8-\u02b8\u1d00-\u1dbf\u1e00-\u1eff"
    "\u2c60-\u2c7f\ua722-\ua7ff\uff21-\uff5a",
    "Cyrl": "\u0400-\u052f\u1c80-\u1c8f\u2de0-\u2dff\ua640-\ua69f",
    "Grek": "\xb5\u0370-\u03ff\u1f00-\u1fff",
    "Armn": "\u0530-\u058f\ufb13-\ufb17",
    "Hebr": "\u0590-\u05ff\ufb1d-\ufb4f",
    "Arab": "\u0600-\u06ff\u0750-\u077f\u0870-\u08ff\ufb50-\ufdff\ufe70-\ufefc",
    "Deva": "\u0900-\u097f\ua8e0-\ua8ff",
    "Beng": "\u0980-\u09ff",
    "Guru": "\u0a00-\u0a7f",
    "Gujr": "\u0a80-\u0aff",
    "Taml": "\u0b80-\u0bff",
    "Telu": "\u0c00-\u0c7f",
    "Knda": "\u0c80-\u0cff",
    "Mlym": "\u0d00-\u0d7f",
    "Sinh": "\u0d80-\u0dff",
    "Thai": "\u0e00-\u0e7f",
    "Laoo": "\u0e80-\u0eff",
    "Mymr": "\u1000-\u109f",
    "Geor": "\u10a0-\u10ff\u1c90-\u1cbf\u2d00-\u2d2f",
    "Ethi": "\u1200-\u139f",
    "Khmr": "\u1780-\u17ff",
    "Hani": _HAN,
    "Jpan": "\u3040-\u30ff\u31f0-\u31ff\uff66-\uff9f" + _HAN,
    "Kore": "\u1100-\u11ff\u3130-\u318f\ua960-\ua97f\uac00-\ud7ff" + _HAN,
}
# The languages that are not written in Latin letters; all others are assumed to be.
_SCRIPT_OF = {
    language: script
    for script, languages in {
        "Cyrl": "ru uk be bg mk sr kk ky mn tg tt",
        "Grek": "el",
        "Armn": "hy",
        "Hebr": "he yi",
        "Arab": "ar fa ur ps sd ug ckb",
        "Deva": "hi ne mr sa",
        "Beng": "bn as",
        "Guru": "pa",
        "Gujr": "gu",
        "Taml": "ta",
        "Telu": "te",
        "Knda": "kn",
        "Mlym": "ml",
        "Sinh": "si",
        "Thai": "th",
        "Laoo": "lo",
        "Mymr": "my",
        "Geor": "ka",
        "Ethi": "am ti",
        "Khmr": "km",
        "Hani": "zh yue",
        "Jpan": "ja",
        "Kore": "ko",
    }.items()
    for language in languages.split()
}
_LETTER = re.compile(r"[^\W\d_]")
_ACRONYM = re.compile(r"\b[A-Z][A-Z0-9]+\b")


# One ideograph stands for about as much text as three letters of an alphabet, a kana for one and a half, a Hangul
# syllable for two: the medians of English characters per character in interface texts in Chinese, Japanese, Korean.
_IDEOGRAPH = re.compile(f"[{_HAN}]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")


def length_in_letters(text: str) -> float:
    """The number of characters, where those that stand for whole syllables or words count as several letters."""
    if text.isascii():
        return len(text)
    further = ((_IDEOGRAPH, 2.0), (_KANA, 0.5), (_HANGUL, 1.0))
    return len(text) + sum(letters * len(characters.findall(text)) for characters, letters in further)


@cache
def script_of(language: str) -> str:
    """The script (ISO 15924) of a language code such as "de", "zh-Hans" or "sr_Latn"; Latin where unknown."""
    base, *subtags = re.split("[-_]", language)
    named = next((tag.title() for tag in subtags if tag.title() in _BLOCKS), None)
    return named or _SCRIPT_OF.get(base.lower(), "Latn")


@cache
def _foreign_letter(script: str) -> re.Pattern[str]:
    return re.compile(rf"[^\W\d_{_BLOCKS[script]}]")


def is_wrong_script(text: str, language: str) -> bool:
    """Whether less than half of the letters of `text`, by `length_in_letters`, belong to the language's script.

    Placeholders, tags and URLs do not count, and neither do acronyms in capitals ("USB"), which most languages
    leave in Latin letters. A text without other letters is never wrong.
    """
    script = script_of(language)
    if script == "Latn" and text.isascii():
        return False
    foreign_letter = _foreign_letter(script)
    if foreign_letter.search(text) is None:
        return False
    words = _ACRONYM.sub("", without_placeholders(text))
    foreign, all_letters = ("".join(letter.findall(words)) for letter in (foreign_letter, _LETTER))
    return 2 * length_in_letters(foreign) > length_in_letters(all_letters)
