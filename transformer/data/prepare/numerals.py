"""Numbers in digits, and whether a sentence and its translation hold the same ones, however each writes them."""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

_DIGIT = re.compile(r"\d")
# Digits with separators inside: 1,000.5 and 1.000,5 and 1'000, Arabic and full-width ones too; a space only before
# groups of three.
_NUMBER = re.compile(r"\d{1,3}(?:\s\d{3})+(?!\d)(?:[.,٫]\d+)?|\d+(?:[.,'’٫٬،，．]\d+)*")
_RUN, _SEPARATOR = re.compile(r"\d+"), re.compile(r"\D")
# Behind a number: words and characters by which it is multiplied, such as those of 20 thousand and of 5万.
_MAGNITUDE = re.compile(
    r"k\b|[\s-]?(?:thousand|tausend|tsd|mille?\b|mil\b|mi(?:o|a|ll?i[oóòõ]n|l[ij]on)|bil+i[oóòõ]n|trillion"
    r"|mil+iard|m(?:rd|ld|ln|n)\b|bn\b|тыс|млн|млрд|миллион|миллиард|мільйон|мільярд|lakh|crore|लाख|करोड़"
    r"|[千万萬億亿兆천만억조])",
    re.IGNORECASE,
)
# A time on the clock, so that 9pm is 21 Uhr: what follows the hour, or the minutes behind it.
_HOUR_SIGN = re.compile(
    r"(?:[:.h]\d\d)?\s?(?:[ap]\.?\s?m\b\.?|o['’]clock|uhr\b|h\b|heures?\b|horas?\b|uur\b|час|год[иі]н|godz|[时時點点시])"
    r"|[:h]\d\d(?!\d)",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?<![\d./-])(?:\d{1,2}([./-])\d{1,2}\1\d{2,4}|\d{4}([./-])\d{1,2}\2\d{1,2})(?![\d/-])")
_MONTH_SIGN = re.compile(r"\s?[月월]")
MONTHS, HOURS = 12, 12


class Numeral(NamedTuple):
    """A number in digits; `value` lacks separators and zeros that change nothing: "10005" of 1,000.50, "6" of 06."""

    value: str
    runs: tuple[str, ...]  # the digits between its separators
    multiplied: bool  # a word such as "million" follows
    is_hour: bool
    date: int | None  # where the date begins of which it may be the month


def number_mismatch(source: str, target: str, rule: str) -> bool:
    """Whether the numbers in digits of a pair differ, each counted as often as it occurs.

    What only writes a number otherwise is no difference: separators, zeros in front and behind a fraction, the digits
    of other scripts, 9:30 and 9.30, 21 Uhr and 9pm, 20 thousand and 20.000. A month, or an hour up to twelve, may be
    a word on the other side, as in "September 11" and "9月11日". With the rule "any", a number that one side lacks is
    a difference; with "conflict" only if each side has one that the other lacks, so that written-out numbers pass.
    """
    if _plain(source) == _plain(target):
        return False
    left, right = _unmatched(list(_numerals(source)), list(_numerals(target)), lambda one: one.value)
    if any(one.multiplied for one in left + right):
        left, right = _unmatched(left, right, lambda one: one.value.rstrip("0"))
    left, right = _unmatched(list(_pieces(left)), list(_pieces(right)), lambda one: one.value)
    left, right = _unmatched(left, right, lambda one: int(one.value) % HOURS if one.is_hour else None)
    left, right = _without_words(left, right), _without_words(right, left)
    return bool(left and right) if rule == "conflict" else bool(left or right)


def _plain(text: str) -> list[str]:
    """The numbers without separators, sorted: equal ones are the same, and most pairs need no closer look."""
    if _DIGIT.search(text) is None:
        return []
    return sorted(_SEPARATOR.sub("", number) for number in _NUMBER.findall(text))


def _numerals(text: str) -> Iterator[Numeral]:
    dates = [match.span() for match in _DATE.finditer(text)]
    for match in _NUMBER.finditer(text):
        begin, end = match.span()
        runs = tuple(_RUN.findall(match[0]))
        in_date = next((first for first, last in dates if first <= begin and end <= last), None)
        yield Numeral(
            value=_value(match[0]),
            runs=runs,
            multiplied=_MAGNITUDE.match(text, end) is not None,
            is_hour=_HOUR_SIGN.match(text, begin + len(runs[0])) is not None,
            date=begin if _MONTH_SIGN.match(text, end) else in_date,
        )


def _pieces(numerals: list[Numeral]) -> Iterator[Numeral]:
    """The runs of digits one by one, without those of a full hour: 9:30 and 9.30 are 9 and 30, 9:00 is 9."""
    for one in numerals:
        for position, run in enumerate(one.runs):
            if run != "00":
                value = one.value if len(one.runs) == 1 else _integer(run)
                yield one._replace(value=value, runs=(run,), is_hour=one.is_hour and position == 0)


def _unmatched(
    left: list[Numeral], right: list[Numeral], key: Callable[[Numeral], Hashable]
) -> tuple[list[Numeral], list[Numeral]]:
    """What is left of both sides when numerals with the same key go away in pairs; the key None matches none."""
    common = Counter(map(key, left)) & Counter(map(key, right))
    del common[None]
    return _without(left, Counter(common), key), _without(right, Counter(common), key)


def _without(side: list[Numeral], common: Counter[Hashable], key: Callable[[Numeral], Hashable]) -> list[Numeral]:
    kept = []
    for one in side:
        if common[key(one)] > 0:
            common[key(one)] -= 1
        else:
            kept.append(one)
    return kept


def _without_words(side: list[Numeral], other: list[Numeral]) -> list[Numeral]:
    """`side` without the month of each date and without hours up to twelve, which `other` then has as words."""
    months_are_words, taken = all(one.date is None for one in other), set[int]()
    hours_are_digits = any(one.is_hour for one in other)
    kept = []
    for one in side:
        if one.date is not None and months_are_words and int(one.value) <= MONTHS and one.date not in taken:
            taken.add(one.date)  # a date has one month
        elif not one.is_hour or hours_are_digits or int(one.value) > HOURS:
            kept.append(one)
    return kept


def _value(number: str) -> str:
    runs = _RUN.findall(number)
    if len(runs) > 1:
        *earlier, last = _SEPARATOR.findall(number)
        # Three digits behind the only separator may be a thousand; a separator unlike the others begins a fraction.
        if last not in earlier if earlier else len(runs[-1]) != 3:
            runs[-1] = _ascii(runs[-1]).rstrip("0")
    return _integer("".join(runs))


def _integer(digits: str) -> str:
    return _ascii(digits).lstrip("0") or "0"


def _ascii(digits: str) -> str:
    return digits if digits.isascii() else "".join(str(unicodedata.decimal(digit)) for digit in digits)
