"""Is one translation of a test set better than another by more than chance (Koehn 2004), as sacreBLEU computes it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PairedScore:
    """One metric of both translations in percent, and the probability that a difference as large is chance."""

    baseline: float
    system: float
    p_value: float


def paired_bootstrap(
    baseline: list[str], system: list[str], references: list[str], metrics: Mapping[str, Metric], samples: int
) -> dict[str, PairedScore]:
    """Each of `metrics`, under its key, for two translations of the same sentences, of which `samples` are drawn."""
    if baseline == system:  # the test would call the difference of nothing significant
        scores = {name: float(metric.corpus_score(system, [references]).score) for name, metric in metrics.items()}
        return {name: PairedScore(score, score, 1.0) for name, score in scores.items()}
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it logs its progress
    systems = [("baseline", baseline), ("system", system)]
    _, columns = PairedTest(systems, dict(metrics), [references], test_type="bs", n_samples=samples)()
    # PairedTest renames the metrics (BLEU, chrF2) and keeps their order; its first column holds the systems' names.
    return {
        name: PairedScore(float(one.score), float(other.score), float(other.p_value))
        for name, (one, other) in zip(metrics, list(columns.values())[1:], strict=True)
    }
