"""Lines that are longer than the model reads, in pieces that it does: sentences, else clauses, else words.

Sentences end where Unicode says so: after a terminator of any script (`Sentence_Terminal`: . ! ? 。 ？ । ؟ …) and the
quotes and brackets that close with it. Those of ASCII need white space behind them; a full stop ends nothing after
one letter (z. B., J. S.), after a short title, or before a small letter.
"""

from collections.abc import Callable
from itertools import pairwise

import regex

_TITLES = "Mr|Mrs|Ms|Dr|Prof|St|Nr|No|Fig|Abb|vs|bzw|ca|etc|usw|inkl|evtl"
_CLOSING = r"""["'”’»›」』）)\]\p{Pf}\p{Pe}]*"""
_SENTENCE = regex.compile(
    rf"(?:[\p{{Sentence_Break=STerm}}--[!?]]+{_CLOSING}\s*|[!?]+{_CLOSING}\s+"
    rf"|(?<!\b(?:\p{{L}}|{_TITLES}))[\p{{Sentence_Break=ATerm}}…]+{_CLOSING}\s+(?!\p{{Ll}}))",
    regex.V1,
)
_CLAUSE = regex.compile(r"[,;:]\s+|\s+[–—-]+\s+|[，、；：،؛﹐﹑]\s*")
_WORD = regex.compile(r"\s+")
_CHARACTER = regex.compile(r"\X")


def split_long(text: str, fits: Callable[[str], bool]) -> list[str]:
    """The sentences of `text`; those for which `fits` is false, in as few parts as do: at clauses, words, characters.

    Joined, they are `text` again but for white space between them.
    """
    parts: list[str] = []
    for sentence in _cut(text, _SENTENCE):
        parts += [sentence] if fits(sentence) else _packed(sentence, [_CLAUSE, _WORD, _CHARACTER], fits)
    return [part.strip() for part in parts if part.strip()]


def _packed(text: str, ends: list["regex.Pattern[str]"], fits: Callable[[str], bool]) -> list[str]:
    """`text` cut at the first of `ends`, as many as fit in a part; a part that is still too long, at the next."""
    parts = [""]
    for unit in _cut(text, ends[0]):
        for part in [unit] if fits(unit) or not ends[1:] else _packed(unit, ends[1:], fits):
            if fits((parts[-1] + part).strip()):
                parts[-1] += part
            else:
                parts.append(part)
    return [part for part in parts if part]


def _cut(text: str, end: "regex.Pattern[str]") -> list[str]:
    """`text` in pieces that each close with a match of `end`."""
    places = [0, *(match.end() for match in end.finditer(text)), len(text)]
    return [text[start:stop] for start, stop in pairwise(places) if start < stop]
