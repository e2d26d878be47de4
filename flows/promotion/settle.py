"""From a candidate to a decision: compare with the champion, ask for approval, move the alias, record it all."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from flows.checkout.workspace import WORK
from flows.promotion.gate import Check, Decision, TestTranslations, decide
from flows.promotion.registered_model import Event, RegisteredModel, Version, deciding
from flows.promotion.rival import Rival, find_rival
from flows.promotion.translate import Search
from flows.promotion.translations import TranslationCache

BOOTSTRAP_SAMPLES = 1000
FIRST = "the first champion: of the registered models the best on the candidate's test set"
BY_HAND = "choose one with python -m flows.promotion --to VERSION, or retrain with promote = manual"
Rule = Literal["auto", "never", "manual"]


@dataclass(frozen=True)
class Candidate:
    """A registered model with its translations by test set, the target language, and where it comes from."""

    version: Version
    tests: dict[str, TestTranslations]
    language: str
    branch: str
    commit: str
    flow_run: str
    search: Search  # that of its evaluation, with which others are compared
    committed: dict[str, TestTranslations] | None = None  # the results that the retraining started from
    bleu_tokenizer: str | None = None  # instead of the one that the language needs
    # Why a version may not become champion whatever it scores: its provenance is not signed as it has to be.
    unsigned: Callable[[Version], str | None] = lambda _: None


@dataclass(frozen=True)
class Answer:
    """What a person answered, or that nobody answered in time."""

    approved: bool
    decision: str  # where it is not approved
    reason: str


@dataclass(frozen=True)
class Settlement:
    """How it ended: the event in the history, the champion it was compared with, all numbers."""

    event: Event
    former: Version | None
    checks: list[Check]
    significance: float


def settle(
    main: Path,
    candidate: Candidate,
    registered: RegisteredModel,
    rule: Rule,
    significance: float,
    ask: Callable[[Decision, Version | None], Answer],
    check: Callable[[], None] = lambda: None,
) -> Settlement:
    """Compare with the champion and move the alias if the rule, the gate and, for the rule `manual`, a person agree.

    Args:
        main: the main workspace, which holds the cache of translations and the lock.
        candidate: the new model.
        registered: the model that it is a version of.
        rule: `never` only compares.
        significance: of the gate.
        ask: called without the lock, and only for a candidate that passes the gate.
        check: called before the alias moves and the decision is recorded; may raise to prevent it.
    """
    if settled := _settled(candidate, registered):
        return settled
    cache = TranslationCache(main / WORK / "translations", registered, candidate.search)
    cache.keep(candidate.version, candidate.tests)
    before = registered.champion()
    rival, decision = compare(candidate, cache, significance)
    answer = ask(decision, rival.version if rival else None) if rule == "manual" and decision.promote else None
    with deciding(main):
        registered.notice()
        if registered.champion() != before:  # another retraining was faster, or somebody has rolled back
            rival, decision = compare(candidate, cache, significance)
        check()
        if rival and rival.version and rival.first and rule == "auto" and not candidate.unsigned(rival.version):
            registered.set_champion(rival.version)
            registered.record(rival.version, "promoted", FIRST, {"flow_run": ""})
        former = rival.version if rival else None
        word, reason = conclude(candidate, rival, decision, rule, answer)
        if word == "promoted":
            registered.set_champion(candidate.version)
        details = {
            "champion": former.number if former else "",
            "significance": significance,
            "checks": [asdict(check) for check in decision.checks],
            "branch": candidate.branch,
            "commit": candidate.commit,
            "flow_run": candidate.flow_run,  # the last one: once it is there, all of them are
        }
        event = registered.record(candidate.version, word, reason, details)
    return Settlement(event, former, decision.checks, significance)


def _settled(candidate: Candidate, registered: RegisteredModel) -> Settlement | None:
    """What this flow run had already decided before it crashed."""
    tags = registered.recorded(candidate.version)
    if tags.get("flow_run") != candidate.flow_run:
        return None
    former = next((version for version in registered.versions() if version.number == tags["champion"]), None)
    checks = [Check(**check) for check in json.loads(tags["checks"])]
    return Settlement(Event(**json.loads(tags["event"])), former, checks, float(tags["significance"]))


def compare(
    candidate: Candidate, cache: TranslationCache, significance: float, *, keep: bool = True
) -> tuple[Rival | None, Decision]:
    """Whom the candidate has to beat, and whether it does; `keep` as for the cache.

    Raises:
        UserError: the champion can't translate.
    """
    bleu = candidate.language, candidate.bleu_tokenizer
    rival = find_rival(candidate.version, candidate.tests, candidate.committed, bleu, cache, keep=keep)
    if _is_same(candidate, rival):
        return rival, Decision(False, "it is the champion's model, byte for byte", [])
    name = rival.name if rival else ""
    against = rival.tests if rival else None
    language, tokenizer = bleu
    decision = decide(candidate.tests, against, language, significance, BOOTSTRAP_SAMPLES, name, tokenizer)
    if rival and rival.tests is None and decision.promote:
        return rival, replace(decision, reason=f"{rival.lost}: {BY_HAND}")
    if rival and rival.lost:
        decision = replace(decision, reason=f"{decision.reason} ({rival.lost})")
    if decision.promote and (why := candidate.unsigned(candidate.version)):
        return rival, replace(decision, promote=False, reason=f"{why}; its scores: {decision.reason}")
    return rival, decision


def _is_same(candidate: Candidate, rival: Rival | None) -> bool:
    """Whether the candidate is the champion itself."""
    champion = rival.version if rival and not rival.lost and not rival.first else None
    return champion is not None and champion.sha256 == candidate.version.sha256


def conclude(
    candidate: Candidate, rival: Rival | None, decision: Decision, rule: Rule, answer: Answer | None
) -> tuple[str, str]:
    """The decision in a word, and its reason."""
    if _is_same(candidate, rival):
        return "unchanged", decision.reason
    if rival and rival.tests is None and rule == "auto":
        return "refused", decision.reason
    if not decision.promote:
        return "refused", decision.reason
    if rule == "never":
        return "not promoted", f"promote is never; the gate says: {decision.reason}"
    if answer is None:
        return "promoted", decision.reason
    return ("promoted" if answer.approved else answer.decision), f"{answer.reason}; the gate says: {decision.reason}"
