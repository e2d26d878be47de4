"""The scores of the models behind two chains, and whether their difference is more than chance."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sacrebleu.metrics import CHRF

from flows.checkout.workspace import METRICS, MODEL, TRANSLATIONS
from flows.lineage.chain import Chain, chain_of_record, files_of
from flows.lineage.project import Project
from flows.records.nested_keys import flatten
from flows.records.record import md5s
from transformer.bleu import bleu_metric
from transformer.evaluation.references import Reference
from transformer.evaluation.scores import Metric, paired_bootstrap

SAMPLES = 1000  # of the paired bootstrap
SIGNIFICANT = 0.05  # p-values below it


@dataclass(frozen=True)
class PairedScore:
    """One metric of one test set for both models, on the sentences that both translated."""

    test_set: str
    sentences: int
    metric: str
    a: float
    b: float
    p_value: float  # that a difference as large is chance


def numbers(project: Project, chain: Chain) -> dict[str, float] | None:
    """Every number of the metrics file, under dotted keys; None if the file is missing."""
    step = chain.maker(METRICS)
    content = project.content(METRICS, step.outputs[METRICS]) if step else None
    if content is None:
        return None
    return {key: value for key, value in flatten(json.loads(content)).items() if type(value) in (int, float)}


def with_evaluation(project: Project, chain: Chain) -> Chain:
    """The chain itself if it contains an evaluation, else that of an evaluation which read its model."""
    maker = chain.maker(MODEL)
    if chain.maker(METRICS) or maker is None:
        return chain
    for found in project.records.everywhere():
        read = md5s(found.record.inputs)
        if read.get(MODEL) == maker.outputs[MODEL] and found.record.output(METRICS):
            return chain_of_record(project, chain.name, found, [METRICS])
    return chain


def paired_scores(
    project: Project, a: Chain, b: Chain, language: str, bleu_tokenizer: str | None = None
) -> list[PairedScore]:
    """sacreBLEU's paired bootstrap of BLEU and chrF2 for each test set that both translated."""
    files = [files_of(project, chain, TRANSLATIONS) for chain in (a, b)]
    found: list[PairedScore] = []
    for name in sorted(files[0].keys() & files[1].keys()):
        sides = [_translations(project, f"{TRANSLATIONS}/{name}", one[name]) for one in files]
        common = [key for key in sides[0] if key in sides[1]]
        one, other = ([side[key] for key in common] for side in sides)
        references = [references for _, *references in common]
        found += compare(name.removesuffix(".jsonl"), one, other, references, language, bleu_tokenizer)
    return found


def _translations(project: Project, path: str, md5: str) -> dict[tuple[str, ...], str]:
    """The hypotheses by source and references."""
    content = project.content(path, md5)
    lines = [json.loads(line) for line in (content or b"").decode().splitlines()]
    return {
        (line["source"], line["reference"], *line.get("further_references", [])): line["hypothesis"] for line in lines
    }


def compare(
    test_set: str,
    a: list[str],
    b: list[str],
    references: Sequence[Reference],
    language: str,
    bleu_tokenizer: str | None = None,
) -> Iterator[PairedScore]:
    """BLEU and chrF2 of two translations of the same sentences; nothing where they are equal."""
    if a == b:
        return
    logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it logs its progress
    metrics: dict[str, Metric] = {"BLEU": bleu_metric(language, bleu_tokenizer), "chrF2": CHRF()}
    for metric, one in paired_bootstrap(a, b, references, metrics, SAMPLES).items():
        yield PairedScore(test_set, len(references), metric, one.baseline, one.system, one.p_value)
