"""Whom a candidate has to beat: the champion or, where there is none, what stands in for it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

from flows.promotion.gate import TestTranslations, decide
from flows.promotion.registered_model import Version
from flows.promotion.translations import TranslationCache
from transformer.bleu import bleu_metric
from transformer.errors import UserError
from transformer.evaluation.references import streams

Tests = dict[str, TestTranslations]
Bleu = tuple[
    str, str | None
]  # the target language, and the tokeniser where it is not the one that the language needs


@dataclass(frozen=True)
class Rival:
    """A model with its translations of the candidate's test sets, and what to call it."""

    name: str
    tests: Tests | None  # None: nothing is left to compare with
    version: Version | None = None  # None: it is not in the registry
    lost: str | None = None  # what became of the champion, where another version or none stands in for it
    first: bool = False  # there never was a champion, and this version should be it


def find_rival(
    candidate: Version,
    tests: Tests,
    committed: Tests | None,
    bleu: Bleu,
    cache: TranslationCache,
    *,
    keep: bool = True,
) -> Rival | None:
    """The champion; else the last one that can still be loaded; where there never was one, the best registered model.

    Args:
        candidate: the version that is to be compared.
        tests: its translations by test set.
        committed: the translations of a model that need not be registered, which come last.
        bleu: how the target language is scored.
        cache: of translations by versions of the registered model.
        keep: store what had to be translated.

    Returns:
        None: there is nothing yet.

    Raises:
        UserError: there is a champion and it can't translate.
    """
    registered = cache.registered
    if champion := registered.champion():
        # Its own model needs no comparison, and may be a copy that MLflow can't load any more.
        own = champion.sha256 == candidate.sha256
        return Rival("the champion", tests if own else cache.of(champion, tests, keep=keep), champion)
    if former := registered.former_champions():
        return _last_champion(former, tests, cache, keep)
    if best := _best(candidate, tests, bleu, cache, keep):
        return best
    if committed:
        return Rival("the committed reports/metrics.json", committed)
    return None


def _last_champion(former: list[str], tests: Tests, cache: TranslationCache, keep: bool) -> Rival:
    there = {version.number: version for version in cache.registered.versions()}
    how = "has lost its alias" if former[0] in there else "was deleted"
    lost = f"the champion, version {former[0]}, {how} in MLflow"
    for version, translated in _translated([there[one] for one in former if one in there], tests, cache, keep):
        return Rival(f"version {version.number}", translated, version, lost)
    return Rival("no champion", None, None, f"{lost} and no earlier one can be loaded")


def _best(candidate: Version, tests: Tests, bleu: Bleu, cache: TranslationCache, keep: bool) -> Rival | None:
    """Of the other registered models that no guard refuses the one with the highest BLEU on the first test set."""
    by_content = {one.sha256 or one.number: one for one in reversed(cache.registered.versions())}
    by_content.pop(candidate.sha256, None)
    best: tuple[float, Rival] | None = None
    for version, translated in _translated(by_content.values(), tests, cache, keep):
        headline = next(iter(translated.values()))
        score = bleu_metric(*bleu).corpus_score(headline.hypotheses, streams(headline.references)).score
        sound = decide(translated, None, bleu[0], 1.0, 1, bleu_tokenizer=bleu[1]).promote
        if sound and (best is None or score > best[0]):
            best = score, Rival(f"version {version.number}", translated, version, first=True)
    return best[1] if best else None


def _translated(
    versions: Iterable[Version], tests: Tests, cache: TranslationCache, keep: bool
) -> Iterable[tuple[Version, Tests]]:
    """Those that can be loaded, with their translations."""
    for version in versions:
        try:
            yield version, cache.of(version, tests, keep=keep)
        except UserError as error:
            logging.getLogger(__name__).warning("left out of the comparison: %s", error)
