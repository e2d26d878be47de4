"""Corpora that tests write as the stages before them would."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from transformer.chunks import LocalExecutor
from transformer.data.tokenize.tokenize import tokenize
from transformer.params import TokenizationParams
from transformer.tokens.store import Side, id_type, side_writer
from transformer.tokens.vocabulary import EOS

Pairs = list[tuple[str, str]]


def write_corpus(corpus: Path, splits: dict[str, Pairs]) -> None:
    """The prepare stage's Parquet files."""
    corpus.mkdir(parents=True)
    for split, pairs in splits.items():
        columns = {"source": [s for s, _ in pairs], "target": [t for _, t in pairs], "origin": [split] * len(pairs)}
        pq.write_table(pa.table(columns), corpus / f"{split}.parquet")


def write_tokens(
    folder: Path, splits: dict[str, Pairs], params: TokenizationParams, given: Path | None = None, **more: Any
) -> Path:
    """The tokenize stage's folder for these splits."""
    write_corpus(folder / "corpus", splits)
    executor = LocalExecutor(workers=1)
    tokenize(
        params, folder / "corpus", folder / "tokens", folder / "tokens.json", folder / "work", executor, given, **more
    )
    return folder / "tokens"


def write_side(tokens: Path, side: Side, sentences: list[list[int]], vocabulary_size: int) -> None:
    """One side of the training split, from piece ids without EOS."""
    ended = [[*ids, EOS] for ids in sentences]
    lengths = np.array([len(ids) for ids in ended])
    flat = np.concatenate(ended).astype(id_type(vocabulary_size))
    with side_writer(tokens, "train", side, vocabulary_size, len(ended), len(flat)) as writer:
        writer.append(flat.tobytes(), lengths)
