"""The evaluate stage: translate the test sets, score them, break the scores down, draw them."""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq
import torch

from transformer.bleu import check_tokenizer, tokenizer_for
from transformer.decoding.translation import Translation
from transformer.decoding.translator import Translator
from transformer.errors import DataError, ParamsError
from transformer.evaluation.analysis import GroupScores, by_length, by_origin, repeats
from transformer.evaluation.attention_plots import draw_examples
from transformer.evaluation.comet_score import check_comet, comet_score
from transformer.evaluation.plots import draw_curves, draw_scores
from transformer.evaluation.references import Reference, first_of, reference_entries
from transformer.evaluation.scores import (
    CorpusScores,
    Score,
    bleu_and_chrf,
    quoted_bleus,
    score_corpus,
    sentence_chrf,
)
from transformer.files import write_json, write_text
from transformer.model.checkpoints import read_index, read_weights
from transformer.model.device import precision_name, select_device
from transformer.model.folder import assemble_model, load_model, read_config
from transformer.params import DecodingParams, EvaluationParams, LanguageParams
from transformer.progress import sentence_progress

log = logging.getLogger(__name__)

DECIMALS = 2  # of percentages
COMET_DECIMALS = 4


@dataclass(frozen=True)
class TestSet:
    """Aligned sentences of one test set; `origins` says where each comes from, more finely than `name`."""

    __test__ = False  # pytest would collect a class called Test…

    name: str
    sources: list[str]
    references: Sequence[Reference]
    origins: list[str]


def evaluate(
    languages: LanguageParams,
    decoding: DecodingParams,
    evaluation: EvaluationParams,
    device: str,
    *,
    corpus: Path,
    model: Path,
    checkpoints: Path,
    reports: Path,
) -> dict[str, Any]:
    """Score the model folder `model` on every test set, and the last single checkpoint on the first, the headline.

    Writes `metrics.json`, `translations/<test>.jsonl`, `plots/` and `attention/` below `reports`; reads the curves
    that the train stage left in `curves/` there. Returns what depends on the machine: device, precision and
    sentences translated a second.

    Raises:
        ParamsError: a test set is not in the corpus, or this machine lacks what a metric needs.
        DataError: an input is missing or malformed.
    """
    check_comet(evaluation)
    check_tokenizer(evaluation)
    tokenizer = tokenizer_for(languages.target, evaluation.bleu_tokenizer)
    if tokenizer.reason:
        log.warning("BLEU is computed with the tokeniser %s: %s", tokenizer.name, tokenizer.reason)
    tests = read_test_sets(corpus / "test.parquet", evaluation.test_sets)
    draw_curves(reports / "plots", reports / "curves")
    averaged, last_checkpoint = _translators(model, checkpoints, decoding, select_device(device))

    headline, language = tests[0], languages.target
    begun = time.monotonic()
    found = {test.name: _translate(averaged, test, "averaged model") for test in tests}
    seconds = time.monotonic() - begun
    for test in tests:
        _write_translations(reports / "translations" / f"{test.name}.jsonl", test, found[test.name])
    on_gpu = averaged.device.type == "cuda"
    metrics = {test.name: _metrics(test, found[test.name], language, evaluation, on_gpu) for test in tests}
    hypotheses = [translation.text for translation in found[headline.name]]
    single = [one.text for one in _translate(last_checkpoint, headline, "last checkpoint")]

    draw_examples(
        reports / "attention", averaged.model, averaged.vocabulary, headline.sources, hypotheses,
        evaluation.attention_sentences,
    )  # fmt: skip
    write_json(
        reports / "metrics.json",
        {
            "languages": f"{languages.source}-{language}",
            "bleu_tokenizer": tokenizer._asdict(),
            "precision": precision_name(averaged.precision),
            "test": metrics[headline.name],
            "tests": metrics,
            **_headline_entries(headline, hypotheses, single, language, evaluation, reports / "plots"),
        },
    )
    return _measured(averaged, sum(len(test.sources) for test in tests), seconds)


def _headline_entries(
    test: TestSet,
    hypotheses: list[str],
    single: list[str],
    language: str,
    evaluation: EvaluationParams,
    plots: Path,
) -> dict[str, Any]:
    """Scores of the last checkpoint, whose translations are `single`, and the model's by length and origin."""
    tokenizer, bounds = evaluation.bleu_tokenizer, evaluation.length_buckets
    bleu, chrf = bleu_and_chrf(single, test.references, language, tokenizer)
    lengths = by_length(test.sources, hypotheses, test.references, bounds, language, tokenizer)
    origins = by_origin(test.origins, hypotheses, test.references, language, tokenizer)
    draw_scores(plots, lengths, test.name)
    return {
        "last_checkpoint": {"bleu": _rounded(bleu), "chrf": _rounded(chrf)},
        "by_length": _groups(lengths),
        "by_origin": _groups(origins),
    }


def _measured(translator: Translator, sentences: int, seconds: float) -> dict[str, Any]:
    return {
        "device": str(translator.device),
        "precision": str(translator.precision).removeprefix("torch."),
        "sentences_per_second": round(sentences / max(seconds, 1e-9), 1),
    }


def read_test_sets(path: Path, names: list[str]) -> list[TestSet]:
    """The named test sets; a set's name is the part of `origin` before its first slash.

    Raises:
        ParamsError: one is not there; lists those that are.
        DataError: the file is missing.
    """
    if not path.exists():
        raise DataError(f"{path} is missing: run the prepare stage first (dvc repro prepare)")
    try:
        rows = pq.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())[:200]
        cure = "python -m flows.restore prepare, or dvc repro prepare"
        raise DataError(f"{path} is damaged ({reason}): {cure}") from None
    members: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        members.setdefault(row["origin"].split("/")[0], []).append(row)
    if missing := [name for name in names if name not in members]:
        there = ", ".join(sorted(members)) or "none"
        raise ParamsError(f"evaluation.test_sets: {missing[0]!r} is not a test set of {path}; those there: {there}")
    return [
        TestSet(
            name,
            [row["source"] for row in members[name]],
            [[row["target"], *row["further"]] if row.get("further") else row["target"] for row in members[name]],
            [row["origin"] for row in members[name]],
        )
        for name in names
    ]


def _translators(
    model: Path, checkpoints: Path, decoding: DecodingParams, device: torch.device
) -> tuple[Translator, Translator]:
    """Of the averaged model and of the last single checkpoint, which shares its vocabulary."""
    averaged = load_model(model, device)
    weights = read_weights(checkpoints / read_index(checkpoints)[-1].file)
    last = assemble_model(read_config(checkpoints), weights, averaged.vocabulary, device)
    return (
        Translator(averaged.model, averaged.vocabulary, decoding, device),
        Translator(last.model, last.vocabulary, decoding, device),
    )


def _translate(translator: Translator, test: TestSet, what: str) -> list[Translation]:
    with sentence_progress(f"{test.name}, {what}", len(test.sources)) as advance:
        found = translator.translate_nbest(test.sources, on_translated=advance)
    log.info("%s, %s: %d sentences translated", test.name, what, len(found))
    return [translations[0] for translations in found]


def _metrics(
    test: TestSet, found: list[Translation], language: str, evaluation: EvaluationParams, on_gpu: bool
) -> dict[str, Any]:
    hypotheses, tokenizer = [translation.text for translation in found], evaluation.bleu_tokenizer
    scores = score_corpus(hypotheses, test.references, language, evaluation.bootstrap_samples, tokenizer)
    log.info("%s: BLEU %.2f, chrF2 %.2f, TER %.2f", test.name, scores.bleu.value, scores.chrf.value, scores.ter.value)
    return {
        **_score_entries(scores),
        **_comet_entries(test, hypotheses, evaluation, on_gpu),
        "sentences": len(hypotheses),
        "length_ratio": round(scores.length_ratio, 4),
        "empty": hypotheses.count(""),
        "repetitive": sum(map(repeats, hypotheses)),
        "bleus": {
            name: {"bleu": _rounded(one.value), "label": one.label, "signature": one.signature}
            for name, one in quoted_bleus(hypotheses, test.references, language, tokenizer).items()
        },
    }


def _score_entries(scores: CorpusScores) -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for name in ("bleu", "chrf", "chrf_plus_plus", "ter"):
        score: Score = getattr(scores, name)
        entries[name] = _rounded(score.value)
        entries[f"{name}_low"], entries[f"{name}_high"] = _rounded(score.low), _rounded(score.high)
        entries[f"{name}_signature"] = score.signature
    return entries


def _comet_entries(
    test: TestSet, hypotheses: list[str], evaluation: EvaluationParams, on_gpu: bool
) -> dict[str, Any]:
    if evaluation.comet_checkpoint is None:
        return {}
    score = comet_score(test.sources, hypotheses, list(map(first_of, test.references)), evaluation, on_gpu)
    log.info("%s: COMET %.4f", test.name, score.value)
    return {"comet": round(score.value, COMET_DECIMALS), "comet_signature": score.signature}


def _groups(groups: dict[str, GroupScores]) -> dict[str, dict[str, float]]:
    return {
        name: {"sentences": group.sentences, "bleu": _rounded(group.bleu), "chrf": _rounded(group.chrf)}
        for name, group in groups.items()
    }


def _write_translations(path: Path, test: TestSet, found: list[Translation]) -> None:
    """One JSON object a sentence, in the order of the corpus; `score` is the model's, `chrf` the sentence's."""
    chrf = sentence_chrf([translation.text for translation in found], test.references)
    rows = zip(test.sources, test.references, test.origins, found, chrf, strict=True)
    lines = (
        {
            "source": source,
            **reference_entries(reference),
            "hypothesis": translation.text,
            "score": round(translation.score, 4),
            "chrf": _rounded(sentence),
            "origin": origin,
        }
        for source, reference, origin, translation, sentence in rows
    )
    write_text(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def _rounded(percent: float) -> float:
    return round(percent, DECIMALS)
