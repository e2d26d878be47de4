"""Filters: the reasons why a pair is not worth learning from, in the order in which they are tried."""

from collections.abc import Callable
from dataclasses import dataclass

from transformer.data.prepare.placeholders import numbers, placeholders
from transformer.data.prepare.scripts import is_wrong_script, length_in_letters
from transformer.params import PreparationParams


@dataclass(frozen=True)
class PairFilter:
    """Judges cleaned pairs one at a time, whatever the other pairs are."""

    params: PreparationParams
    source_language: str
    target_language: str

    def reason_against(self, source: str, target: str) -> str | None:
        """The name of the first filter that removes the pair of cleaned texts, None if it is to be kept."""
        for name, removes in _FILTERS.items():
            if removes(self, source, target):
                return name
        return None

    def is_empty(self, source: str, target: str) -> bool:
        """A side without text."""
        return not source or not target

    def is_identical(self, source: str, target: str) -> bool:
        """Not translated: product names, untranslated entries."""
        return source == target

    def has_bad_length(self, source: str, target: str) -> bool:
        """More than `max_words` words by white space on a side."""
        return max(len(source.split()), len(target.split())) > self.params.max_words

    def has_bad_length_ratio(self, source: str, target: str) -> bool:
        """The longer side over the shorter beyond `max_length_ratio`, in words and also in characters.

        Either measure is enough to pass: a compound is one word for several ("charge time", "Ladezeit"), and
        some scripts put no spaces between words. An ideograph counts as several characters.
        """
        words = _ratio(len(source.split()), len(target.split()))
        return min(words, _ratio(length_in_letters(source), length_in_letters(target))) > self.params.max_length_ratio

    def has_placeholder_mismatch(self, source: str, target: str) -> bool:
        """Placeholders, tags or URLs that are not the same on both sides."""
        return placeholders(source) != placeholders(target)

    def has_number_mismatch(self, source: str, target: str) -> bool:
        """Numbers in digits that are not the same on both sides."""
        return numbers(source) != numbers(target)

    def has_wrong_script(self, source: str, target: str) -> bool:
        """A side mostly in letters that its language does not use."""
        return is_wrong_script(source, self.source_language) or is_wrong_script(target, self.target_language)


_FILTERS: dict[str, Callable[[PairFilter, str, str], bool]] = {
    "empty": PairFilter.is_empty,
    "identical": PairFilter.is_identical,
    "length": PairFilter.has_bad_length,
    "length_ratio": PairFilter.has_bad_length_ratio,
    "placeholder_mismatch": PairFilter.has_placeholder_mismatch,
    "number_mismatch": PairFilter.has_number_mismatch,
    "wrong_script": PairFilter.has_wrong_script,
}
FILTER_NAMES = tuple(_FILTERS)


def _ratio(first: float, second: float) -> float:
    return max(first, second) / min(first, second)
