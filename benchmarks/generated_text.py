"""Parallel text of any size that looks to the pipeline like WMT's: for measuring where no corpus can be fetched.

Words are made of syllables and drawn by Zipf's law with Mandelbrot's shift, sentences have the spread of lengths of
newstest, and the faults of crawled corpora occur at about their rates: repeated pairs, sentences of the test set,
untranslated lines, wrong numbers, cut translations, HTML entities, stray spaces.
"""

from itertools import accumulate
from pathlib import Path

import numpy as np

from transformer.chunks import Executor
from transformer.data.parts import Part, write_parts

CHUNK_PAIRS = 50_000
WORDS = 400_000  # distinct words of a language
HELD_OUT = {"newstest2013": ("valid", 3000), "newstest2014": ("test", 3003), "newstest2014-filtered": ("test", 2737)}
FAULTS = {
    "none": 0.895, "repeated": 0.04, "held_out": 0.002, "untranslated": 0.005, "number": 0.02, "cut": 0.02,
    "entity": 0.01, "spaces": 0.008,
}  # fmt: skip
LANGUAGES = {  # onsets, vowels and codas of syllables, the frequent ones first
    "en": "t h s w m th r n d p f l c b g st pr tr ch sh v br k|e a o i u ea ou ai y|| n r s t l d nd st ng ck m p",
    "de": "d s w m h b g v n st r f sch k z l p ge t tr be pf|e i a ie ei u o au ä ö ü|| n r t s ch nd l ng st m k",
}


def write_wmt_like(raw: Path, pairs: int, executor: Executor) -> None:
    """A raw folder as the download stage leaves it: `pairs` training pairs and held-out sets of newstest's sizes."""
    raw.mkdir(parents=True)
    tables = {language: words(language) for language in LANGUAGES}
    parts = []
    sizes = {"train": ("train", pairs), **HELD_OUT}
    for number, (name, (split, count)) in enumerate(sizes.items()):
        seeds = [(number, begin, min(CHUNK_PAIRS, count - begin)) for begin in range(0, count, CHUNK_PAIRS)]
        with (raw / f"{name}.en").open("wb") as source, (raw / f"{name}.de").open("wb") as target:
            for columns in executor.map(_lines, tables, seeds):
                source.write(columns[0])
                target.write(columns[1])
        files = {"source": f"{name}.en", "target": f"{name}.de", "source_language": "en", "target_language": "de"}
        parts.append(Part(corpus="generated", name=name, split=split, format="lines", **files))
    write_parts(raw, parts)


def words(language: str) -> list[str]:
    """The words of a language, by rank; the frequent ones are short."""
    random = np.random.default_rng(len(LANGUAGES[language]))
    syllables = np.minimum(1 + random.poisson(np.log10(1 + np.arange(2 * WORDS)) / 5), 6)
    sounds = [sounds.split(" ") for sounds in LANGUAGES[language].replace("||", "|").split("|")]
    spelled = [""] * int(syllables.sum())
    for place in sounds:
        drawn = (len(place) * random.random(len(spelled)) ** 1.7).astype(int).tolist()
        spelled = [syllable + place[number] for syllable, number in zip(spelled, drawn, strict=True)]
    ends = list(accumulate(syllables.tolist()))
    made = ("".join(spelled[end - count : end]) for end, count in zip(ends, syllables.tolist(), strict=True))
    return list(dict.fromkeys(made))[:WORDS]


def _lines(tables: dict[str, list[str]], seed: tuple[int, int, int]) -> tuple[bytes, bytes]:
    """The lines of both sides of a chunk: number of the part, begin of the chunk and pairs are its seed."""
    pairs = _pairs(tables, seed)
    if seed[0] == 0:  # the training part holds some sentences of the test set, one word changed
        test = _pairs(tables, (2, 0, HELD_OUT["newstest2014"][1]))
        pairs = _with_faults(pairs, test, np.random.default_rng([9, *seed]))
    source, target = ("\n".join([*column, ""]).encode() for column in zip(*pairs, strict=True))
    return source, target


def _pairs(tables: dict[str, list[str]], seed: tuple[int, int, int]) -> list[tuple[str, str]]:
    random = np.random.default_rng(list(seed))
    lengths = np.clip(random.lognormal(2.95, 0.55, seed[2]), 2, 120).astype(int)
    count = min(map(len, tables.values()))
    # The inverse of the distribution function of Zipf-Mandelbrot with exponent 1.1.
    least = (count / 3 + 1) ** -0.1
    ranks = (3 * ((1 - (1 - least) * random.random(int(lengths.sum()))) ** -10 - 1)).astype(int)
    swapped = ranks.copy()
    at = np.flatnonzero(random.random(len(ranks) - 1) < 0.15)
    swapped[at], swapped[at + 1] = swapped[at + 1].copy(), swapped[at].copy()
    numbers = random.random(seed[2]) < 0.15
    values = random.integers(2, 2030, seed[2])
    pairs = []
    for end, size, number in zip(np.cumsum(lengths), lengths, np.where(numbers, values, 0), strict=True):
        source, target = (drawn[end - size : end].tolist() for drawn in (ranks, swapped))
        pairs.append((_sentence(tables["en"], source, number), _sentence(tables["de"], target, number)))
    return pairs


def _sentence(table: list[str], ranks: list[int], number: int) -> str:
    words_ = [table[rank] for rank in ranks]
    if number:
        words_.insert(len(words_) // 2, str(number))
    if len(words_) > 12:
        words_[5] += ","
    text = " ".join(words_)
    return f"{text[0].upper()}{text[1:]}."


def _with_faults(
    pairs: list[tuple[str, str]], test: list[tuple[str, str]], random: np.random.Generator
) -> list[tuple[str, str]]:
    faults = random.choice(list(FAULTS), len(pairs), p=list(FAULTS.values()))
    picks = random.integers(0, 1 << 31, len(pairs))
    result: list[tuple[str, str]] = []
    for (source, target), fault, pick in zip(pairs, faults.tolist(), picks.tolist(), strict=True):
        if fault == "repeated" and result:
            source, target = result[pick % len(result)]
        elif fault == "held_out":
            source, target = test[pick % len(test)]
            source = f"{source[:-1]} {pick % 1000}."
            target = f"{target[:-1]} {pick % 1000}."
        elif fault == "untranslated":
            target = source
        elif fault == "number":
            target = f"{target[:-1]} {pick % 100}."
        elif fault == "cut":
            target = target[: len(target) // 3]
        elif fault == "entity":
            source, target = f"{source[:-1]} &amp; more.", f"{target[:-1]} &amp; mehr."
        elif fault == "spaces":
            source = f"  {source}\u00a0 "
        result.append((source, target))
    return result
