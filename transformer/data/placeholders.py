"""What a translation must carry over unchanged: placeholders, tags and URLs, and on request e-mails and numbers."""

import re
from collections import Counter
from collections.abc import Collection, Iterator

_URL = r"""https?://[^\s<>"'()\[\]{}]*[^\s<>"'()\[\]{}.,;:!?]  # a URL, without the punctuation after it"""
_TAG = r"""</?[A-Za-z][^<>]*>"""
_BRACES_AND_FORMATS = r"""
    \{\{[^{}]*\}\} | \{[^{}]*\}                         # {name}, {{name}}
    | %\([^()\s]+\)[a-z] | %(?:\d+\$)?[-+0\#]*\d*(?:\.\d+)?[sdifgxXuc@]\b  # %(name)s, %s, %1$d, %.2f
    """
_PLACEHOLDER = re.compile(f"{_URL}\n | {_TAG} | {_BRACES_AND_FORMATS}", re.VERBOSE)
_DIGITS = re.compile(r"\d+")

# What `protected` looks for. Numbers are runs of digits without a sign that languages write differently: 9:30, 1.5
# and 1,000 become 9.30, 1,5 and 1.000, and 06 may become 6; of dotted ones only IPv4 addresses stay everywhere.
_KINDS = {
    "urls": rf"""{_URL}
        | www\.[^\s<>"'()\[\]{{}}]*[^\s<>"'()\[\]{{}}.,;:!?]
        | [\w.+-]*\w@\w[\w-]*(?:\.\w[\w-]*)+""",
    "tags": _TAG,
    "placeholders": rf"""[$\#%]?(?:{_BRACES_AND_FORMATS}) | &[A-Za-z][\w.-]*;""",
    "numbers": r"""(?<![\w.,:/])(?<!\d[ '’])(?:\d{1,3}(?:\.\d{1,3}){3}|[1-9]\d*|0)(?!\w|[.,:/'’-]\d|[ ]\d)""",
}
KINDS = tuple(_KINDS)
_PROTECTED = re.compile("|".join(f"(?P<{kind}>{pattern})" for kind, pattern in _KINDS.items()), re.VERBOSE)


def placeholders(text: str) -> list[str]:
    """The placeholders, tags and URLs of `text`, sorted: the order may differ between languages."""
    return sorted(_PLACEHOLDER.findall(text)) if _may_hold_placeholders(text) else []


def protected(text: str, kinds: Collection[str]) -> Iterator[re.Match[str]]:
    """What stands in `text` of the `kinds` (of KINDS), in order; `lastgroup` of a match is its kind."""
    return (match for match in _PROTECTED.finditer(text) if match.lastgroup in kinds)


def not_kept(source: str, translation: str, kinds: Collection[str]) -> list[str]:
    """What `source` holds of the `kinds` and `translation` does not hold exactly as often, or holds besides.

    Numbers that `source` does not have may be there: "two" may become 2.
    """
    if not kinds:
        return []
    wanted = Counter(match[0] for match in protected(source, kinds))
    found = Counter(match[0] for match in protected(translation, kinds))
    besides = {match[0] for match in protected(translation, kinds) if match.lastgroup != "numbers"} - {*wanted}
    return [text for text, count in wanted.items() if found[text] != count] + sorted(besides)


def _may_hold_placeholders(text: str) -> bool:
    return "{" in text or "<" in text or "%" in text or "://" in text


def without_placeholders(text: str) -> str:
    """`text` with a space for each placeholder, tag and URL."""
    return _PLACEHOLDER.sub(" ", text)


def mask(text: str) -> str:
    """`text` with "{}" for every placeholder, tag and URL and "0" for every run of digits."""
    return _DIGITS.sub("0", _PLACEHOLDER.sub("{}", text) if _may_hold_placeholders(text) else text)
