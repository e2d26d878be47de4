"""Filters: the reasons why a pair is not worth learning from, in the order in which they are tried."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from transformer.data.placeholders import placeholders
from transformer.data.prepare.numerals import number_mismatch
from transformer.data.prepare.scripts import is_wrong_script, length_in_letters
from transformer.languages import is_unsegmented
from transformer.params import FilterParams


@dataclass(frozen=True)
class PairFilter:
    """Judges cleaned pairs one at a time, whatever the other pairs are."""

    params: FilterParams
    source_language: str
    target_language: str

    def reason_against(self, source: str, target: str) -> str | None:
        """The name of the first filter that removes the pair of cleaned texts, None if it is to be kept."""
        for name, removes in self._active:
            if removes(self, source, target):
                return name
        return None

    @cached_property
    def _active(self) -> "list[tuple[str, Rule]]":
        """The filters that are not switched off."""
        return [(name, removes) for name, removes in _FILTERS.items() if getattr(self.params, name)]

    def is_empty(self, source: str, target: str) -> bool:
        """A side without text."""
        return not source or not target

    def is_identical(self, source: str, target: str) -> bool:
        """Not translated: product names, untranslated entries."""
        return source == target

    def has_bad_length(self, source: str, target: str) -> bool:
        """More than `length` words by white space on a side."""
        limit = self.params.length
        return limit is not None and max(len(source.split()), len(target.split())) > limit

    def has_bad_length_in_characters(self, source: str, target: str) -> bool:
        """More than `length_in_characters` characters on a side whose language puts no spaces between words."""
        limit = self.params.length_in_characters
        sides = ((source, self.source_language), (target, self.target_language))
        return limit is not None and any(len(text) > limit and is_unsegmented(language) for text, language in sides)

    def has_bad_length_ratio(self, source: str, target: str) -> bool:
        """The longer side over the shorter beyond `length_ratio`, in words and also in characters.

        Either measure is enough to pass: a compound is one word for several ("charge time", "Ladezeit"), and
        some scripts put no spaces between words. An ideograph counts as several characters.
        """
        limit = self.params.length_ratio
        if limit is None or not source or not target:
            return False
        words = _ratio(len(source.split()), len(target.split()))
        return min(words, _ratio(length_in_letters(source), length_in_letters(target))) > limit

    def has_placeholder_mismatch(self, source: str, target: str) -> bool:
        """Placeholders, tags or URLs that are not the same on both sides."""
        return placeholders(source) != placeholders(target)

    def has_number_mismatch(self, source: str, target: str) -> bool:
        """Numbers in digits that differ, by the rule `number_mismatch`."""
        rule = self.params.number_mismatch
        return rule is not None and number_mismatch(source, target, rule)

    def has_wrong_script(self, source: str, target: str) -> bool:
        """A side mostly in letters that its language does not use."""
        return is_wrong_script(source, self.source_language) or is_wrong_script(target, self.target_language)


Rule = Callable[[PairFilter, str, str], bool]
_FILTERS: dict[str, Rule] = {
    "empty": PairFilter.is_empty,
    "identical": PairFilter.is_identical,
    "length": PairFilter.has_bad_length,
    "length_in_characters": PairFilter.has_bad_length_in_characters,
    "length_ratio": PairFilter.has_bad_length_ratio,
    "placeholder_mismatch": PairFilter.has_placeholder_mismatch,
    "number_mismatch": PairFilter.has_number_mismatch,
    "wrong_script": PairFilter.has_wrong_script,
}
FILTER_NAMES = tuple(_FILTERS)


def _ratio(first: float, second: float) -> float:
    return max(first, second) / min(first, second)
