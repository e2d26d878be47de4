"""The gate: may the candidate replace the champion? A pure function of translations; returns all numbers, too.

Three scores must not be significantly worse than the champion's, by sacreBLEU's paired bootstrap: BLEU and chrF2 of
every test set, and chrF2 of every origin in it, with the level divided by the number of origins. Four rates of
degenerate output may exceed the champion's only by a small margin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from sacrebleu.metrics import BLEU, CHRF

from transformer.bleu import bleu_metric
from transformer.data.placeholders import placeholders
from transformer.evaluation.analysis import MIN_SENTENCES, repeats
from transformer.evaluation.references import Reference, first_of, streams
from transformer.evaluation.scores import Metric, paired_bootstrap

# For each rate of degenerate output: the limit while there is no champion, and by how much a candidate may exceed the
# champion's rate. In a small test set two more sentences are always allowed.
RATES = {
    "length_deviation": (0.5, 0.1),  # |length ratio - 1|
    "empty": (0.05, 0.01),
    "repetitive": (0.1, 0.02),
    "lost_placeholders": (0.5, 0.05),  # of the sentences that hold one
}
MIN_DIFFERING = 2  # sentences
DECIMALS = 4


@dataclass(frozen=True)
class TestTranslations:
    """One model's translations of one test set, aligned."""

    __test__ = False  # pytest takes classes called Test… for its own

    sources: list[str]
    references: list[Reference]
    origins: list[str]
    hypotheses: list[str]

    def __post_init__(self) -> None:
        lengths = {len(column) for column in (self.sources, self.references, self.origins, self.hypotheses)}
        if len(lengths) > 1:
            raise ValueError(f"translations of a test set differ in length: {sorted(lengths)}")


@dataclass(frozen=True)
class Check:
    """One comparison; bleu and chrf are in percent, the rates are shares (or the deviation from 1)."""

    test_set: str
    name: str
    candidate: float
    champion: float | None
    limit: float  # for scores the lowest p-value of a pass, for rates the highest value
    p_value: float | None
    passed: bool


@dataclass(frozen=True)
class Decision:
    """Whether the candidate is good enough, why, and all numbers behind it."""

    promote: bool
    reason: str
    checks: list[Check]


def decide(
    candidate: Mapping[str, TestTranslations],
    champion: Mapping[str, TestTranslations] | None,
    language: str,
    significance: float,
    samples: int,
    rival: str = "the champion",
    bleu_tokenizer: str | None = None,
) -> Decision:
    """Compare translations of the same test sets; without a champion, only the rates are checked.

    Args:
        candidate: by test set.
        champion: by test set, of the same sources; None: there is no champion yet.
        language: the target's.
        significance: a score counts as worse where the paired bootstrap's p-value is below.
        samples: of the bootstrap.
        rival: what to call `champion` where another model stands in for it.
        bleu_tokenizer: instead of the one that the language needs.
    """
    checks: list[Check] = []
    new_bleu = partial(bleu_metric, language, bleu_tokenizer)
    for name, new in candidate.items():
        old = champion[name] if champion is not None else None
        if old is not None:
            checks += _score_checks(name, new, old, new_bleu(), significance, samples)
        checks += _rate_checks(name, new, old, new_bleu())
    failed = [check for check in checks if not check.passed]
    if failed:
        return Decision(False, "; ".join(_in_words(check, rival) for check in failed), checks)
    if champion is None:
        return Decision(True, "no champion yet", checks)
    than = "" if rival == "the champion" else f" than {rival}"
    return Decision(True, f"not significantly worse{than}, no guard fails", checks)


def _score_checks(
    test_set: str, new: TestTranslations, old: TestTranslations, bleu: BLEU, significance: float, samples: int
) -> list[Check]:
    if (new.sources, new.references) != (old.sources, old.references):
        raise ValueError(f"{test_set}: the two models translated different test sets")
    metrics: dict[str, Metric] = {"bleu": bleu, "chrf": CHRF()}
    checks = _compare(test_set, "", metrics, new, old, significance, samples)
    groups = _origin_rows(new.origins)
    for origin, rows in groups.items():
        level = significance / len(groups)
        name = f" of {origin}"
        checks += _compare(test_set, name, {"chrf": CHRF()}, _rows(new, rows), _rows(old, rows), level, samples)
    return checks


def _origin_rows(origins: list[str]) -> dict[str, list[int]]:
    """The rows of each origin that has enough sentences for a score; none where there is a single origin."""
    groups: dict[str, list[int]] = {}
    for row, origin in enumerate(origins):
        groups.setdefault(origin, []).append(row)
    large = {origin: rows for origin, rows in sorted(groups.items()) if len(rows) >= MIN_SENTENCES}
    return large if len(groups) > 1 else {}


def _rows(side: TestTranslations, rows: list[int]) -> TestTranslations:
    return TestTranslations(
        [side.sources[row] for row in rows],
        [side.references[row] for row in rows],
        [side.origins[row] for row in rows],
        [side.hypotheses[row] for row in rows],
    )


def _compare(
    test_set: str,
    where: str,
    metrics: dict[str, Metric],
    new: TestTranslations,
    old: TestTranslations,
    level: float,
    samples: int,
) -> list[Check]:
    """A check for each metric: passed unless the candidate's score is lower with a p-value below `level`."""
    checks = []
    for name, found in paired_bootstrap(old.hypotheses, new.hypotheses, new.references, metrics, samples).items():
        worse = found.system < found.baseline and found.p_value < level
        candidate, champion = round(found.system, DECIMALS), round(found.baseline, DECIMALS)
        checks.append(Check(test_set, f"{name}{where}", candidate, champion, level, found.p_value, not worse))
    return checks


def _rate_checks(test_set: str, new: TestTranslations, old: TestTranslations | None, bleu: BLEU) -> list[Check]:
    candidates = _rates(new, bleu)
    champions = _rates(old, bleu) if old is not None else {}
    checks = []
    for name, (alone, slack) in RATES.items():
        (value, counted), champion = candidates[name], champions[name][0] if champions else None
        limit = alone if champion is None else round(champion + max(slack, MIN_DIFFERING / counted), DECIMALS)
        checks.append(Check(test_set, name, value, champion, limit, None, value <= limit))
    return checks


def _rates(side: TestTranslations, bleu: BLEU) -> dict[str, tuple[float, int]]:
    """Each rate, and how many sentences (for the length: words) it is a rate of."""
    score = bleu.corpus_score(side.hypotheses, streams(side.references))
    words = max(1, score.ref_len)
    empty = [not text.strip() for text, source in zip(side.hypotheses, side.sources, strict=True) if source.strip()]
    return {
        "length_deviation": (round(abs(score.sys_len / words - 1), DECIMALS), words),
        "empty": _share(empty),
        "repetitive": _share([repeats(text) for text in side.hypotheses]),
        "lost_placeholders": _share(_losses(side)),
    }


def _losses(side: TestTranslations) -> list[bool]:
    """For each sentence whose reference keeps the placeholders of its source: whether the translation loses any."""
    losses = []
    for source, reference, text in zip(side.sources, side.references, side.hypotheses, strict=True):
        expected = placeholders(source)
        if expected and placeholders(first_of(reference)) == expected:
            losses.append(placeholders(text) != expected)
    return losses


def _share(marks: list[bool]) -> tuple[float, int]:
    count = max(1, len(marks))
    return round(sum(marks) / count, DECIMALS), count


def _in_words(check: Check, rival: str) -> str:
    where = f"{check.test_set}: {check.name}"
    if check.p_value is not None:
        scores = f"{check.candidate:.2f} is significantly below {rival}'s {check.champion:.2f}"
        return f"{where} {scores} (p = {check.p_value:.4f})"
    return f"{where} {check.candidate} is above {check.limit}"
