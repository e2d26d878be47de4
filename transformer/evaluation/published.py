"""Published BLEU on WMT 2014, each with the way in which it was computed, for comparison with our own scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

PAPER = "Vaswani et al. (2017), Table 2"
TENSOR2TENSOR = "its issue 317, one model scored both ways"
FAIRSEQ = "Ott et al. (2018) and fairseq, scaling_nmt"


@dataclass(frozen=True)
class PublishedBleu:
    """One figure; `score` is the key in `quoted_bleus` of the score of ours that it is compared with."""

    languages: str
    test_set: str
    score: str
    model: str
    bleu: float
    source: str


PUBLISHED = (
    PublishedBleu("en-de", "newstest2014", "tokenised_split", "the paper, base", 27.3, PAPER),
    PublishedBleu("en-de", "newstest2014", "tokenised_split", "the paper, big", 28.4, PAPER),
    PublishedBleu("en-de", "newstest2014", "13a", "tensor2tensor", 27.52, TENSOR2TENSOR),
    PublishedBleu("en-de", "newstest2014", "tokenised_split", "tensor2tensor", 29.02, TENSOR2TENSOR),
    PublishedBleu("en-de", "newstest2014", "13a", "fairseq, big", 28.6, FAIRSEQ),
    PublishedBleu("en-de", "newstest2014", "tokenised_split", "fairseq, big", 29.29, FAIRSEQ),
    PublishedBleu("en-fr", "newstest2014", "tokenised", "the paper, base", 38.1, PAPER),
    PublishedBleu("en-fr", "newstest2014", "tokenised", "the paper, big", 41.8, f"{PAPER} (41.0 in 6.1)"),
)

# Two sets have the same name, so a score has to say on which of them it was measured.
TEST_SETS = {
    "newstest2014": "full set of 3003 lines (sacreBLEU's wmt14/full)",
    "newstest2014-filtered": "filtered set, 2737 lines for en-de (sacreBLEU's wmt14)",
}


def full_name(test_set: str) -> str:
    """The test set's name with what distinguishes it from others of the same name."""
    return f"{test_set}, {TEST_SETS[test_set]}" if test_set in TEST_SETS else test_set


def beside_published(bleus: Mapping[str, Mapping[str, Any]], languages: str, test_set: str) -> list[list[str]]:
    """Rows of [what, BLEU, signature or source]: each of our scores, then those published of its kind.

    Args:
        bleus: `bleus` of a test set in metrics.json: `label`, `bleu` and `signature` by score.
        languages: the direction, as `en-de`.
        test_set: the name in data/corpora.yaml.
    """
    rows = []
    for score, ours in bleus.items():
        rows.append([ours["label"], f"{ours['bleu']:.2f}", ours["signature"]])
        rows += [
            [f"published: {one.model}", f"{one.bleu:g}", one.source]
            for one in PUBLISHED
            if (one.languages, one.test_set, one.score) == (languages, test_set, score)
        ]
    return rows
