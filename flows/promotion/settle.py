"""From a candidate to a decision: compare with the champion, ask for approval, move the alias, record it all."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from flows.checkout.workspace import WORK
from flows.promotion.gate import Check, Decision, TestTranslations, decide
from flows.promotion.registered_model import Event, RegisteredModel, Version, deciding
from flows.promotion.translations import TranslationCache

BOOTSTRAP_SAMPLES = 1000
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
    bleu_tokenizer: str | None = None  # instead of the one that the language needs


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
    cache = TranslationCache(main / WORK / "translations", registered)
    cache.keep(candidate.version, candidate.tests)
    former = registered.champion()
    decision = _compare(candidate, former, cache, significance)
    answer = ask(decision, former) if rule == "manual" and decision.promote else None
    with deciding(main):
        if (now := registered.champion()) != former:  # another retraining was faster, or somebody has rolled back
            former, decision = now, _compare(candidate, now, cache, significance)
        word, reason = _conclude(candidate, former, decision, rule, answer)
        check()
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
    former = registered.version(tags["champion"]) if tags["champion"] else None
    checks = [Check(**check) for check in json.loads(tags["checks"])]
    return Settlement(Event(**json.loads(tags["event"])), former, checks, float(tags["significance"]))


def _compare(
    candidate: Candidate, champion: Version | None, cache: TranslationCache, significance: float
) -> Decision:
    if champion and champion.sha256 == candidate.version.sha256:
        return Decision(False, "it is the champion's model, byte for byte", [])
    translated = cache.of(champion, candidate.tests) if champion else None
    language, tokenizer = candidate.language, candidate.bleu_tokenizer
    return decide(candidate.tests, translated, language, significance, BOOTSTRAP_SAMPLES, tokenizer)


def _conclude(
    candidate: Candidate, champion: Version | None, decision: Decision, rule: Rule, answer: Answer | None
) -> tuple[str, str]:
    """The decision in a word, and its reason."""
    if champion and champion.sha256 == candidate.version.sha256:
        return "unchanged", decision.reason
    if not decision.promote:
        return "refused", decision.reason
    if rule == "never":
        return "not promoted", f"promote is never; the gate says: {decision.reason}"
    if answer is None:
        return "promoted", decision.reason
    return ("promoted" if answer.approved else answer.decision), f"{answer.reason}; the gate says: {decision.reason}"
