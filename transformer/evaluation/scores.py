"""sacreBLEU's metrics with their signatures and bootstrap intervals, and every BLEU that people quote.

Every number comes from sacreBLEU's own API. The paper's own score (section 6.1, Table 2) is not its default: results
on WMT 2014 were then computed on text that Moses' tokeniser had split, for German also at the hyphens of compounds,
by multi-bleu.perl: clipped n-gram counts over the corpus, no smoothing, no further tokenisation. It comes out one to
two points higher.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeAlias

from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest
from sacremoses import MosesTokenizer

from transformer.bleu import STANDARD, bleu_metric, tokenizer_for
from transformer.evaluation.references import Reference, streams
from transformer.languages import is_unsegmented, main_language

TOKENISED, TOKENISED_SPLIT = "tokenised", "tokenised_split"
# Target languages whose WMT 2014 results were published as tokenised BLEU, and whether their compounds were split.
MOSES_LANGUAGES = {"de": True, "fr": False}
# On bytes, as tensor2tensor's `perl -ple 's{(\S)-(\S)}{$1 ##AT##-##AT## $2}g'` works without its -C.
_HYPHEN = re.compile(rb"(\S)-(\S)")

Metric: TypeAlias = BLEU | CHRF | TER


@dataclass(frozen=True)
class Score:
    """A metric in percent, its bootstrap 95 % interval (mean ± half width, as sacreBLEU prints it), its signature."""

    value: float
    low: float
    high: float
    signature: str


@dataclass(frozen=True)
class CorpusScores:
    """What is reported for one test set; `length_ratio` is hypothesis over reference words."""

    bleu: Score
    chrf: Score  # chrF2
    chrf_plus_plus: Score  # chrF2++: words and pairs of words count too
    ter: Score
    length_ratio: float


def score_corpus(
    hypotheses: list[str],
    references: Sequence[Reference],
    language: str,
    bootstrap_samples: int,
    bleu_tokenizer: str | None = None,
) -> CorpusScores:
    """Cased BLEU, chrF2, chrF2++ and TER of one hypothesis a sentence.

    `language` is the target's; `bleu_tokenizer` overrides the tokeniser that it needs.
    """
    bleu, ter = with_float_scores(bleu_metric(language, bleu_tokenizer)), ter_metric(language)
    bleu_score = bleu.corpus_score(hypotheses, streams(references), n_bootstrap=bootstrap_samples)

    def scored(metric: Metric) -> Score:
        return _score(
            metric,
            with_float_scores(metric).corpus_score(hypotheses, streams(references), n_bootstrap=bootstrap_samples),
        )

    return CorpusScores(
        _score(bleu, bleu_score),
        scored(CHRF()),
        scored(CHRF(word_order=2)),
        scored(ter),
        length_ratio=bleu_score.sys_len / max(1, bleu_score.ref_len),
    )


def ter_metric(language: str) -> TER:
    """TER; for languages without spaces between words with its Asian options, which split ideographs and kana."""
    return TER(normalized=True, asian_support=True) if is_unsegmented(language) else TER()


def bleu_and_chrf(
    hypotheses: list[str], references: Sequence[Reference], language: str, bleu_tokenizer: str | None = None
) -> tuple[float, float]:
    """The same BLEU and chrF2 in percent, without intervals."""
    bleu = bleu_metric(language, bleu_tokenizer).corpus_score(hypotheses, streams(references)).score
    chrf = CHRF().corpus_score(hypotheses, streams(references)).score
    return float(bleu), float(chrf)


def sentence_chrf(hypotheses: list[str], references: Sequence[Reference]) -> list[float]:
    """chrF2 in percent of each sentence; BLEU says little about a single one."""
    chrf = CHRF()
    return [
        float(chrf.sentence_score(hypothesis, [reference] if isinstance(reference, str) else reference).score)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]


@dataclass(frozen=True)
class Comparison:
    """One metric of two systems in percent, and how likely chance alone would make them differ as much."""

    baseline: float
    system: float
    p_value: float


def paired_bootstrap(
    baseline: list[str], system: list[str], references: Sequence[Reference], metrics: dict[str, Metric], samples: int
) -> dict[str, Comparison]:
    """sacreBLEU's paired bootstrap for each metric by name; the three lists are aligned sentences.

    Equal translations have the p-value 1; sacreBLEU's would be nearly zero.
    """
    if baseline == system:
        scores = {
            name: float(metric.corpus_score(system, streams(references)).score) for name, metric in metrics.items()
        }
        return {name: Comparison(score, score, 1.0) for name, score in scores.items()}
    systems = [("baseline", baseline), ("system", system)]
    _, columns = PairedTest(systems, dict(metrics), streams(references), test_type="bs", n_samples=samples)()
    # PairedTest renames the metrics (BLEU, chrF2) and keeps their order; its first column holds the systems' names.
    return {
        name: Comparison(float(first.score), float(second.score), float(second.p_value))
        for name, (first, second) in zip(metrics, list(columns.values())[1:], strict=True)
    }


def with_float_scores(metric: Metric) -> Metric:
    """The metric, with scores that are all of one type.

    sacreBLEU's are float32 in the resamples of a bootstrap, but 0.0 where nothing matches, and of a mixture of both
    Python takes no mean.
    """
    compute = metric._compute_score_from_stats

    def computed(stats: list[int]) -> Any:
        result = compute(stats)
        result.score = float(result.score)
        return result

    metric._compute_score_from_stats = computed
    return metric


def _score(metric: Metric, result: Any) -> Score:
    mean, half_width = float(result._mean), float(result._ci)
    return Score(float(result.score), mean - half_width, mean + half_width, str(metric.get_signature()))


@dataclass(frozen=True)
class QuotedBleu:
    """A corpus BLEU in percent, what it is called, and how exactly it was computed."""

    value: float
    label: str
    signature: str


def quoted_bleus(
    hypotheses: list[str], references: Sequence[Reference], language: str, bleu_tokenizer: str | None = None
) -> dict[str, QuotedBleu]:
    """BLEU of one reference a sentence in each of the ways in which results for the target `language` are quoted.

    Keys are sacreBLEU's names of its tokenisers, `lc` (13a, lower-cased), and for German and French `tokenised` and
    `tokenised_split`. A language for which sacreBLEU has a tokeniser of its own has only that one, and the one that
    `bleu_tokenizer` names.
    """
    found = {}
    for name in dict.fromkeys([tokenizer_for(language, bleu_tokenizer).name, tokenizer_for(language).name]):
        found[name] = _quoted(f"sacreBLEU, {name}", bleu_metric(language, name), hypotheses, references)
    if STANDARD not in found:
        return found
    lowercase = BLEU(tokenize=STANDARD, lowercase=True)
    found["lc"] = _quoted(f"sacreBLEU, {STANDARD}, -lc", lowercase, hypotheses, references)
    found["intl"] = _quoted("sacreBLEU, intl", BLEU(tokenize="intl"), hypotheses, references)
    if main_language(language) in MOSES_LANGUAGES:
        found |= _tokenised_bleus(hypotheses, references, main_language(language))
    return found


def moses_tokenised(lines: list[str], language: str) -> list[str]:
    """Each line as Moses' tokenizer.perl writes it, tokens between single spaces, XML characters escaped."""
    tokenizer = MosesTokenizer(lang=language)
    return [tokenizer.tokenize(line, return_str=True) for line in lines]


def compounds_split(tokenised: list[str]) -> list[str]:
    """Each line with the hyphens inside its tokens as tokens: `rich-text` is `rich ##AT##-##AT## text`."""
    return [_HYPHEN.sub(rb"\1 ##AT##-##AT## \2", line.encode()).decode() for line in tokenised]


def _tokenised_bleus(hypotheses: list[str], references: Sequence[Reference], language: str) -> dict[str, QuotedBleu]:
    multi_bleu = BLEU(tokenize="none", smooth_method="none", force=True)  # force: the text is tokenised on purpose
    ours, theirs = (
        moses_tokenised(hypotheses, language),
        _each(references, lambda lines: moses_tokenised(lines, language)),
    )
    how = f"moses:{language}|sacremoses:{version('sacremoses')}"
    found = {TOKENISED: _quoted("tokenised (Moses)", multi_bleu, ours, theirs, how)}
    if MOSES_LANGUAGES[language]:
        label, how = "tokenised, compounds split (paper)", f"{how}|compounds:split"
        found[TOKENISED_SPLIT] = _quoted(
            label, multi_bleu, compounds_split(ours), _each(theirs, compounds_split), how
        )
    return found


def _each(references: Sequence[Reference], changed: Callable[[list[str]], list[str]]) -> list[Reference]:
    """The references with their texts changed."""
    flat = [[one] if isinstance(one, str) else one for one in references]
    texts = iter(changed([text for one in flat for text in one]))
    return [list(islice(texts, len(one))) for one in flat]


def _quoted(
    label: str, metric: BLEU, hypotheses: list[str], references: Sequence[Reference], how: str = ""
) -> QuotedBleu:
    score = float(metric.corpus_score(hypotheses, streams(references)).score)
    signature = str(metric.get_signature())
    return QuotedBleu(score, label, f"{signature}|{how}" if how else signature)
