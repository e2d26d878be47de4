"""One set of translations, every BLEU that people quote, each with its label and signature.

The paper's own score (section 6.1, Table 2) is not sacreBLEU's. Results on WMT 2014 were then computed on text that
Moses' tokeniser had split, for German also at the hyphens of compounds, by multi-bleu.perl: clipped n-gram counts
over the corpus, no smoothing, no further tokenisation. It comes out one to two points higher.
"""

import re
from dataclasses import dataclass
from importlib.metadata import version

from sacrebleu.metrics import BLEU
from sacremoses import MosesTokenizer

from transformer.evaluation.scores import STANDARD_TOKENIZER, bleu_metric, bleu_tokenizer, main_language

TOKENISED, TOKENISED_SPLIT = "tokenised", "tokenised_split"
# Target languages whose WMT 2014 results were published as tokenised BLEU, and whether their compounds were split.
MOSES_LANGUAGES = {"de": True, "fr": False}

# On bytes, as tensor2tensor's `perl -ple 's{(\S)-(\S)}{$1 ##AT##-##AT## $2}g'` works without its -C.
_HYPHEN = re.compile(rb"(\S)-(\S)")


@dataclass(frozen=True)
class QuotedBleu:
    """A corpus BLEU in percent, what it is called, and how exactly it was computed."""

    value: float
    label: str
    signature: str


def quoted_bleus(hypotheses: list[str], references: list[str], language: str) -> dict[str, QuotedBleu]:
    """BLEU of one reference a sentence in each of the ways in which results for the target `language` are quoted.

    Keys are sacreBLEU's names of its tokenisers, `lc` (13a, lower-cased), and for German and French `tokenised` and
    `tokenised_split`. A language that sacreBLEU scores with a tokeniser of its own has that one only.
    """
    tokenizer = bleu_tokenizer(language)
    found = {tokenizer: _quoted(f"sacreBLEU, {tokenizer}", bleu_metric(language), hypotheses, references)}
    if tokenizer != STANDARD_TOKENIZER:
        return found
    lowercase = BLEU(tokenize=STANDARD_TOKENIZER, lowercase=True)
    found["lc"] = _quoted(f"sacreBLEU, {STANDARD_TOKENIZER}, -lc", lowercase, hypotheses, references)
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


def _tokenised_bleus(hypotheses: list[str], references: list[str], language: str) -> dict[str, QuotedBleu]:
    multi_bleu = BLEU(tokenize="none", smooth_method="none", force=True)  # force: tokenised text is no mistake here
    ours, theirs = moses_tokenised(hypotheses, language), moses_tokenised(references, language)
    how = f"moses:{language}|sacremoses:{version('sacremoses')}"
    found = {TOKENISED: _quoted("tokenised (Moses)", multi_bleu, ours, theirs, how)}
    if MOSES_LANGUAGES[language]:
        label, how = "tokenised, compounds split (paper)", f"{how}|compounds:split"
        found[TOKENISED_SPLIT] = _quoted(label, multi_bleu, compounds_split(ours), compounds_split(theirs), how)
    return found


def _quoted(label: str, metric: BLEU, hypotheses: list[str], references: list[str], how: str = "") -> QuotedBleu:
    score = float(metric.corpus_score(hypotheses, [references]).score)
    signature = str(metric.get_signature())
    return QuotedBleu(score, label, f"{signature}|{how}" if how else signature)
