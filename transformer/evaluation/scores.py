"""sacreBLEU's metrics with their signatures and bootstrap intervals; every number comes from its own API."""

from dataclasses import dataclass

from sacrebleu.metrics import BLEU, CHRF, TER

# Languages written without spaces need another tokenizer than sacreBLEU's 13a; the signature names it.
BLEU_TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char"}
STANDARD_TOKENIZER = "13a"


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
    chrf: Score
    ter: Score
    length_ratio: float


def score_corpus(hypotheses: list[str], references: list[str], language: str, bootstrap_samples: int) -> CorpusScores:
    """Cased BLEU, chrF2 and TER of one hypothesis and one reference a sentence; `language` is the target's."""
    bleu, chrf, ter = bleu_metric(language), CHRF(), TER()
    bleu_score = bleu.corpus_score(hypotheses, [references], n_bootstrap=bootstrap_samples)
    return CorpusScores(
        _score(bleu, bleu_score),
        _score(chrf, chrf.corpus_score(hypotheses, [references], n_bootstrap=bootstrap_samples)),
        _score(ter, ter.corpus_score(hypotheses, [references], n_bootstrap=bootstrap_samples)),
        length_ratio=bleu_score.sys_len / max(1, bleu_score.ref_len),
    )


def bleu_and_chrf(hypotheses: list[str], references: list[str], language: str) -> tuple[float, float]:
    """The same BLEU and chrF2 in percent, without intervals."""
    bleu = bleu_metric(language).corpus_score(hypotheses, [references]).score
    chrf = CHRF().corpus_score(hypotheses, [references]).score
    return float(bleu), float(chrf)


def sentence_chrf(hypotheses: list[str], references: list[str]) -> list[float]:
    """chrF2 in percent of each sentence; BLEU says little about a single one."""
    chrf = CHRF()
    return [
        float(chrf.sentence_score(hypothesis, [reference]).score)
        for hypothesis, reference in zip(hypotheses, references, strict=True)
    ]


def bleu_metric(language: str) -> BLEU:
    """BLEU with the tokeniser that sacreBLEU prescribes for the target language, 13a for most."""
    return BLEU(tokenize=bleu_tokenizer(language))


def bleu_tokenizer(language: str) -> str:
    """sacreBLEU's name of the tokeniser for a target language."""
    return BLEU_TOKENIZERS.get(main_language(language), STANDARD_TOKENIZER)


def main_language(language: str) -> str:
    """The language without script or region: `zh` of `zh-Hans`."""
    return language.split("-")[0].lower()


def _score(metric: BLEU | CHRF | TER, result: BLEU | CHRF | TER) -> Score:
    mean, half_width = float(result._mean), float(result._ci)
    return Score(float(result.score), mean - half_width, mean + half_width, str(metric.get_signature()))
