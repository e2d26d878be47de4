"""What is trained on besides each new pair once: pairs of the parent's corpus, and small corpora more often."""

import hashlib
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet as pq

from transformer.data.cleaning import fold_text

log = logging.getLogger(__name__)

BATCH_PAIRS = 20_000
COLUMNS = ["source", "target", "origin"]
REPLAYED = "replayed "  # before the name of a corpus that the parent was trained on


@dataclass(frozen=True)
class Mixture:
    """How the training pairs are mixed.

    `share` of the pairs in the file `replay` are added. A corpus of n pairs beside the largest one of N counts as one
    of N (n / N) ** (1 / temperature): as many at 1, all alike at infinity (Arivazhagan et al. 2019, section 4.2).
    """

    replay: Path | None
    share: float
    temperature: float

    @property
    def changes_nothing(self) -> bool:
        """Whether each new pair is trained on once, and no other."""
        return self.replay is None and self.temperature == 1


def write_mixture(mixture: Mixture, corpus: Path, target: Path) -> dict[str, Any]:
    """Write the training pairs of `corpus`, mixed, to the Parquet file `target`; returns what was done.

    Of the replayed pairs those are left out whose source is held out in the corpus, and those that it has anyway.
    Pairs are chosen and repeated evenly over a corpus, so that the same files give the same bytes.
    """
    left_out: Counter[str] = Counter()
    sizes = Counter(name for name, _ in _pairs(mixture, corpus, left_out))
    largest = max(sizes.values())
    factors = {name: (largest / size) ** (1 - 1 / mixture.temperature) for name, size in sizes.items()}
    seen: Counter[str] = Counter()
    written: Counter[str] = Counter()
    with pq.ParquetWriter(target, pyarrow.schema([(name, pyarrow.string()) for name in COLUMNS])) as writer:
        rows: list[tuple[str, str, str]] = []
        for name, pair in _pairs(mixture, corpus, Counter()):
            copies = int((seen[name] + 1) * factors[name]) - int(seen[name] * factors[name])
            seen[name] += 1
            written[name] += copies
            rows += [(*pair, name)] * copies
            if len(rows) >= BATCH_PAIRS:
                writer.write_table(_table(rows))
                rows = []
        writer.write_table(_table(rows))
    for name in sizes:
        log.info("%s: %d pairs, %d an epoch", name, sizes[name], written[name])
    if left_out:
        words = "not replayed: %d pairs whose source is held out, %d that the corpus has itself"
        log.info(words, left_out["held_out"], left_out["known"])
    pairs = {name: {"pairs": sizes[name], "an_epoch": written[name]} for name in sizes}
    return {"corpora": pairs, "not_replayed": {reason: left_out[reason] for reason in ("held_out", "known")}}


def _pairs(mixture: Mixture, corpus: Path, left_out: Counter[str]) -> Iterator[tuple[str, tuple[str, str]]]:
    """(corpus, pair) of the new pairs and then of the replayed ones."""
    known = set[bytes]()
    for source, target, origin in _rows(corpus / "train.parquet"):
        if mixture.replay:
            known.add(_digest(source, target))
        yield origin.partition("/")[0], (source, target)
    if mixture.replay is None:
        return
    held_out = {fold_text(row[0]) for split in ("valid", "test") for row in _rows(corpus / f"{split}.parquet")}
    for place, (source, target, origin) in enumerate(_rows(mixture.replay)):
        if int((place + 1) * mixture.share) == int(place * mixture.share):
            continue
        if fold_text(source) in held_out:
            left_out["held_out"] += 1
        elif _digest(source, target) in known:
            left_out["known"] += 1
        else:
            yield f"{REPLAYED}{origin.partition('/')[0]}", (source, target)


def _rows(path: Path) -> Iterator[tuple[str, str, str]]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for batch in file.iter_batches(BATCH_PAIRS, columns=COLUMNS):
            yield from zip(*(batch.column(name).to_pylist() for name in COLUMNS), strict=True)


def _digest(source: str, target: str) -> bytes:
    return hashlib.blake2b(f"{source}\0{target}".encode(), digest_size=8).digest()


def _table(rows: list[tuple[str, str, str]]) -> pyarrow.Table:
    columns = zip(*rows, strict=True) if rows else ((),) * len(COLUMNS)
    return pyarrow.table(
        {name: pyarrow.array(column, pyarrow.string()) for name, column in zip(COLUMNS, columns, strict=True)}
    )
