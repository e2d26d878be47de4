"""Where the quality comes from: BLEU and chrF by source length and by origin, and degenerate outputs."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transformer.evaluation.references import Reference
from transformer.evaluation.scores import bleu_and_chrf

MIN_SENTENCES = 20  # of an origin that is listed on its own; corpus BLEU of fewer sentences means nothing
OTHER = "other"

# One to four words, at least three times in a row.
_REPETITION = re.compile(r"(?<!\S)(\S+(?: \S+){0,3})(?: \1){2,}(?!\S)")


@dataclass(frozen=True)
class GroupScores:
    """BLEU and chrF2 in percent of some of a test set's sentences."""

    sentences: int
    bleu: float
    chrf: float


def length_bucket(words: int, upper_bounds: list[int]) -> str:
    """The bucket that a source of so many words falls into, e.g. `11-20` for ascending bounds 10, 20, or `21+`."""
    lower = 1
    for upper in upper_bounds:
        if words <= upper:
            return f"{lower}-{upper}" if lower < upper else str(upper)
        lower = upper + 1
    return f"{lower}+"


def by_length(
    sources: list[str],
    hypotheses: list[str],
    references: Sequence[Reference],
    upper_bounds: list[int],
    language: str,
    bleu_tokenizer: str | None = None,
) -> dict[str, GroupScores]:
    """Scores of each bucket of source words that holds a sentence, shortest first."""
    lengths = [len(source.split()) for source in sources]
    buckets = dict.fromkeys(length_bucket(length, upper_bounds) for length in sorted(lengths))
    members = [length_bucket(length, upper_bounds) for length in lengths]
    return _by_group(buckets, members, hypotheses, references, language, bleu_tokenizer)


def by_origin(
    origins: list[str],
    hypotheses: list[str],
    references: Sequence[Reference],
    language: str,
    bleu_tokenizer: str | None = None,
) -> dict[str, GroupScores]:
    """Scores of each origin by name; origins of fewer than MIN_SENTENCES sentences together are `other`."""
    counts = {origin: origins.count(origin) for origin in sorted(set(origins))}
    members = [origin if counts[origin] >= MIN_SENTENCES else OTHER for origin in origins]
    groups = [origin for origin, count in counts.items() if count >= MIN_SENTENCES]
    groups += sorted({OTHER} & set(members))
    return _by_group(groups, members, hypotheses, references, language, bleu_tokenizer)


def repeats(text: str) -> bool:
    """Whether one to four words occur three times or more in a row, as when a search loops."""
    return _REPETITION.search(text) is not None


def _by_group(
    groups: Iterable[str],
    members: list[str],
    hypotheses: list[str],
    references: Sequence[Reference],
    language: str,
    bleu_tokenizer: str | None,
) -> dict[str, GroupScores]:
    scores = {}
    for group in groups:
        rows = [row for row, member in enumerate(members) if member == group]
        ours, theirs = [hypotheses[row] for row in rows], [references[row] for row in rows]
        bleu, chrf = bleu_and_chrf(ours, theirs, language, bleu_tokenizer)
        scores[group] = GroupScores(len(rows), bleu, chrf)
    return scores
