"""What a translation must carry over unchanged: placeholders, tags, URLs and numbers."""

import re
import unicodedata

_PLACEHOLDER = re.compile(
    r"""https?://[^\s<>"'()\[\]{}]*[^\s<>"'()\[\]{}.,;:!?]  # a URL, without the punctuation after it
    | </?[A-Za-z][^<>]*>                                  # a tag
    | \{\{[^{}]*\}\} | \{[^{}]*\}                         # {name}, {{name}}
    | %\([^()\s]+\)[a-z] | %(?:\d+\$)?[-+0\#]*\d*(?:\.\d+)?[sdifgxXuc@]\b  # %(name)s, %s, %1$d, %.2f
    """,
    re.VERBOSE,
)
_DIGITS = re.compile(r"\d+")
# Digits with separators inside: 1,000.5 and 1.000,5 and 1'000; a space only before groups of three.
_NUMBER = re.compile(r"\d{1,3}(?:\s\d{3})+(?!\d)(?:[.,]\d+)?|\d+(?:[.,'’]\d+)*")
_SEPARATOR = re.compile(r"\D")


def placeholders(text: str) -> list[str]:
    """The placeholders, tags and URLs of `text`, sorted: the order may differ between languages."""
    return sorted(_PLACEHOLDER.findall(text)) if _may_hold_placeholders(text) else []


def _may_hold_placeholders(text: str) -> bool:
    return "{" in text or "<" in text or "%" in text or "://" in text


def without_placeholders(text: str) -> str:
    """`text` with a space for each placeholder, tag and URL."""
    return _PLACEHOLDER.sub(" ", text)


def numbers(text: str) -> list[str]:
    """The numbers of `text` as sorted strings of ASCII digits.

    Separators are dropped, because languages swap them: 1,000.5 and 1.000,5 are both "10005".
    """
    if _DIGITS.search(text) is None:  # a quick check, as most sentences have none
        return []
    return sorted("".join(map(_ascii_digit, _SEPARATOR.sub("", number))) for number in _NUMBER.findall(text))


def _ascii_digit(digit: str) -> str:
    return str(unicodedata.decimal(digit))


def mask(text: str) -> str:
    """`text` with "{}" for every placeholder, tag and URL and "0" for every run of digits."""
    return _DIGITS.sub("0", _PLACEHOLDER.sub("{}", text) if _may_hold_placeholders(text) else text)
