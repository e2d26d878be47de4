"""What a translation must carry over unchanged: placeholders, tags and URLs."""

import re

_PLACEHOLDER = re.compile(
    r"""https?://[^\s<>"'()\[\]{}]*[^\s<>"'()\[\]{}.,;:!?]  # a URL, without the punctuation after it
    | </?[A-Za-z][^<>]*>                                  # a tag
    | \{\{[^{}]*\}\} | \{[^{}]*\}                         # {name}, {{name}}
    | %\([^()\s]+\)[a-z] | %(?:\d+\$)?[-+0\#]*\d*(?:\.\d+)?[sdifgxXuc@]\b  # %(name)s, %s, %1$d, %.2f
    """,
    re.VERBOSE,
)
_DIGITS = re.compile(r"\d+")


def placeholders(text: str) -> list[str]:
    """The placeholders, tags and URLs of `text`, sorted: the order may differ between languages."""
    return sorted(_PLACEHOLDER.findall(text)) if _may_hold_placeholders(text) else []


def _may_hold_placeholders(text: str) -> bool:
    return "{" in text or "<" in text or "%" in text or "://" in text


def without_placeholders(text: str) -> str:
    """`text` with a space for each placeholder, tag and URL."""
    return _PLACEHOLDER.sub(" ", text)


def mask(text: str) -> str:
    """`text` with "{}" for every placeholder, tag and URL and "0" for every run of digits."""
    return _DIGITS.sub("0", _PLACEHOLDER.sub("{}", text) if _may_hold_placeholders(text) else text)
