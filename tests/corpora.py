"""Corpora that tests write as the stages before them would."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from transformer.data.tokenize.encode import tokenize
from transformer.data.tokenize.params import TokenizationParams

Pairs = list[tuple[str, str]]


def write_corpus(corpus: Path, splits: dict[str, Pairs]) -> None:
    """The prepare stage's Parquet files."""
    corpus.mkdir(parents=True)
    for split, pairs in splits.items():
        columns = {"source": [s for s, _ in pairs], "target": [t for _, t in pairs], "origin": [split] * len(pairs)}
        pq.write_table(pa.table(columns), corpus / f"{split}.parquet")


def write_tokens(folder: Path, splits: dict[str, Pairs], params: TokenizationParams) -> Path:
    """The tokenize stage's folder for these splits."""
    write_corpus(folder / "corpus", splits)
    tokenize(params, folder / "corpus", folder / "tokens", folder / "tokens.json")
    return folder / "tokens"
