"""The tokenize stage: learn the vocabulary on the training split, encode every split, report."""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from transformer.data.tokenize.params import TokenizationParams
from transformer.data.tokenize.store import SIDES, SideWriter
from transformer.data.tokenize.vocabulary import UNK, VOCABULARY_FILE, Vocabulary, train_vocabulary
from transformer.errors import DataError
from transformer.files import write_json

log = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
BATCH_PAIRS = 10_000


def tokenize(params: TokenizationParams, corpus: Path, tokens: Path, report: Path) -> None:
    """Write the vocabulary and the encoded splits to `tokens`, statistics to `report`.

    Raises:
        DataError: a split is missing, or the training split is too small for the vocabulary asked for.
    """
    tokens.mkdir(parents=True, exist_ok=True)
    log.info("learning %d byte-pair pieces", params.vocabulary_size)
    vocabulary = train_vocabulary(params, _training_sentences(params, corpus))
    (tokens / VOCABULARY_FILE).write_bytes(vocabulary.model)
    statistics = {split: _encode_split(vocabulary, corpus, tokens, split) for split in SPLITS}
    write_json(report, {"vocabulary_size": vocabulary.size, **statistics})


def _batches(corpus: Path, split: str) -> Iterator[dict[str, list[str]]]:
    path = corpus / f"{split}.parquet"
    if not path.exists():
        raise DataError(f"{path} is missing: run the prepare stage first (dvc repro prepare)")
    for batch in pq.ParquetFile(path).iter_batches(BATCH_PAIRS, columns=list(SIDES)):
        yield batch.to_pydict()


def _training_sentences(params: TokenizationParams, corpus: Path) -> Iterator[str]:
    """Both sides of at most `training_pairs` pairs, spread evenly over the training split."""
    pairs = pq.ParquetFile(corpus / "train.parquet").metadata.num_rows
    stride = max(1, -(-pairs // params.training_pairs))
    row = 0
    for batch in _batches(corpus, "train"):
        for source, target in zip(batch["source"], batch["target"], strict=True):
            if row % stride == 0:
                yield source
                yield target
            row += 1


def _encode_split(vocabulary: Vocabulary, corpus: Path, tokens: Path, split: str) -> dict[str, Any]:
    writers = {side: SideWriter(tokens, split, side, vocabulary.size) for side in SIDES}
    counts: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for batch in _batches(corpus, split):
        for side in SIDES:
            encoded = vocabulary.encode_batch(batch[side])
            writers[side].append(encoded)
            counts[side].update(_count(vocabulary, batch[side], encoded))
    for writer in writers.values():
        writer.close()
    log.info("%s: %d pairs encoded", split, counts["source"]["sentences"])
    return {side: _rates(count) for side, count in counts.items()}


def _count(vocabulary: Vocabulary, texts: list[str], encoded: list[list[int]]) -> Counter[str]:
    return Counter(
        sentences=len(texts),
        words=sum(len(text.split()) for text in texts),
        tokens=sum(map(len, encoded)),
        unknown=sum(ids.count(UNK) for ids in encoded),
        bytes=sum(vocabulary.is_byte(id_) for ids in encoded for id_ in ids),
        round_trips=sum(vocabulary.decode(ids) == text for ids, text in zip(encoded, texts, strict=True)),
    )


def _rates(count: Counter[str]) -> dict[str, float]:
    tokens = max(1, count["tokens"])
    return {
        "sentences": count["sentences"],
        "tokens": count["tokens"],
        "tokens_per_word": round(count["tokens"] / max(1, count["words"]), 4),
        "unknown_rate": round(count["unknown"] / tokens, 6),
        "byte_rate": round(count["bytes"] / tokens, 6),
        "round_trip_rate": round(count["round_trips"] / max(1, count["sentences"]), 6),
    }
