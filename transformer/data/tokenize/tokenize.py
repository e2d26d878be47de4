"""The tokenize stage: learn the vocabulary on the training split, encode every split, report."""

import json
import logging
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import sentencepiece

from transformer.chunks import Executor, map_chunks, read_table
from transformer.data.tokenize.encode import COUNTS, WordEncoder, encode_chunk
from transformer.data.tokenize.extend import extended
from transformer.data.tokenize.learn import count_words, frequent_words, train_vocabulary, words_with_counts
from transformer.data.tokenize.mixture import Mixture, write_mixture
from transformer.errors import DataError
from transformer.files import atomic_path, keep_hashed, kept_files, sha256_of, write_json
from transformer.params import TokenizationParams
from transformer.progress import chunk_progress
from transformer.tokens.store import OLD_VALID, SIDES, side_writer
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.working_folder import name_of, settings_of, working_folder, write_settings

log = logging.getLogger(__name__)

SPLITS = ("train", "valid", "test")
STORED_SPLITS = ("train", "valid", OLD_VALID)  # the test split is evaluated from its text, as users' input is
CODE = ("data/cleaning.py", "data/tokenize", "tokens")
ALONE = Mixture(None, 0.0, 1.0)
BATCH_PAIRS = 20_000
MOST_WORDS = 1 << 21  # from which the vocabulary is learned; SentencePiece takes some 700 bytes for each


def tokenize(
    params: TokenizationParams,
    corpus: Path,
    tokens: Path,
    report: Path,
    work: Path,
    executor: Executor,
    given: Path | None = None,
    mixture: Mixture = ALONE,
    old_valid: Path | None = None,
) -> None:
    """Write the vocabulary and the encoded train and valid splits to `tokens`, statistics of all splits to `report`.

    The vocabulary is learned, or else that of the file `given`, with `new_pieces` more. `old_valid` is the validation
    split of the parent's corpus, which is encoded, too.

    The splits pass through memory in chunks that `executor` computes; the vocabulary and finished chunks are kept in
    a folder below `work`, so that an interrupted run continues where it stopped.

    Raises:
        DataError: a split is missing, the training split is too small for the vocabulary asked for, the given one
            can't be used, or another process is doing the same work.
    """
    for split in SPLITS:
        if not (corpus / f"{split}.parquet").exists():
            raise DataError(f"{corpus / split}.parquet is missing: run the prepare stage first (dvc repro prepare)")
    tokens.mkdir(parents=True, exist_ok=True)
    versions = {"pyarrow": pyarrow.__version__, "sentencepiece": sentencepiece.__version__}
    # By content, however they are named.
    files_read = {"vocabulary": given, "replay": mixture.replay, "old_valid": old_valid}
    versions |= {name: sha256_of(path) for name, path in files_read.items() if path}
    mixed_by = {"share": mixture.share, "temperature": mixture.temperature}
    sections = {"tokenization": params.model_dump(exclude={"model"}), "mixture": mixed_by}
    settings = settings_of(sections, CODE, corpus, batch=str(BATCH_PAIRS), **versions)
    with working_folder(work, name_of(settings)) as folder:
        write_settings(folder, settings)
        vocabulary = _vocabulary(params, corpus, folder, executor, given)
        (tokens / VOCABULARY_FILE).write_bytes(vocabulary.model)
        files = {split: corpus / f"{split}.parquet" for split in SPLITS} | (
            {OLD_VALID: old_valid} if old_valid else {}
        )
        mixed: dict[str, Any] = {}
        if not mixture.changes_nothing:
            files["train"] = folder / "mixed.parquet"
            mixed = {"mixture": write_mixture(mixture, corpus, files["train"])}
        encoded = {
            split: _encode_split(vocabulary, path, tokens, split, folder, executor) for split, path in files.items()
        }
        write_json(report, {"vocabulary_size": vocabulary.size, **mixed, **encoded})
        shutil.rmtree(folder)


def _batches(file_path: Path) -> Iterator[pyarrow.Table]:
    with (
        _whole(file_path) as path,
        pq.ParquetFile(path, pre_buffer=False) as file,  # a buffer would keep it all
    ):
        for batch in file.iter_batches(BATCH_PAIRS, columns=list(SIDES)):
            yield pyarrow.table(batch)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Says which file is damaged where it can't be read in the body."""
    try:
        yield path
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.errno:  # a disk that fails or is full is no fault of the file
            raise
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path} is damaged ({reason}): python -m flows.restore prepare, or dvc repro prepare"
        ) from None


def _pairs_in(file_path: Path) -> int:
    with _whole(file_path) as path:
        return int(pq.read_metadata(path).num_rows)


def _chunk_count(path: Path) -> int:
    return -(-_pairs_in(path) // BATCH_PAIRS)


def _training_pairs(params: TokenizationParams, path: Path) -> Iterator[pyarrow.Table]:
    """At most `training_pairs` pairs, spread evenly over the training split."""
    pairs = _pairs_in(path)
    stride = max(1, -(-pairs // params.training_pairs))
    begin = 0
    for batch in _batches(path):
        yield batch.take(np.arange(-begin % stride, batch.num_rows, stride))
        begin += batch.num_rows


def _vocabulary(
    params: TokenizationParams, corpus: Path, folder: Path, executor: Executor, given: Path | None
) -> Vocabulary:
    """The vocabulary that an earlier run left, the given one, or a new one."""
    path = kept_files(folder).get(VOCABULARY_FILE)
    if path is None:
        vocabulary = _given(params, given) if given else None
        if vocabulary is None or params.new_pieces:
            words = _words(params, corpus, folder, executor)
            vocabulary = _learned(params, vocabulary, words)
        written = folder / VOCABULARY_FILE
        with atomic_path(written) as temporary:
            temporary.write_bytes(vocabulary.model)
        path = keep_hashed(written, VOCABULARY_FILE)
    return Vocabulary.load(path)


def _given(params: TokenizationParams, path: Path) -> Vocabulary:
    vocabulary = Vocabulary.load(path)
    vocabulary.check_special(path)
    log.info(
        "the vocabulary is given: %d pieces of %s; tokenization.vocabulary_size = %d is not used",
        vocabulary.size, path, params.vocabulary_size,
    )  # fmt: skip
    return vocabulary


def _words(params: TokenizationParams, corpus: Path, folder: Path, executor: Executor) -> pyarrow.Table:
    path = corpus / "train.parquet"
    with chunk_progress("count words", _chunk_count(path)) as shown:
        chunks = _training_pairs(params, path)
        counted = map_chunks(executor, count_words, None, chunks, folder / "words", shown)
    return frequent_words(map(read_table, counted), MOST_WORDS)


def _learned(params: TokenizationParams, given: Vocabulary | None, words: pyarrow.Table) -> Vocabulary:
    """A new vocabulary, or the given one with new pieces."""
    pieces = params.new_pieces if given else params.vocabulary_size
    more = "more " if given else ""
    log.info("learning %d %sbyte-pair pieces from %d distinct words", pieces, more, words.num_rows)
    if given:
        return extended(given, words_with_counts(words), pieces, params.character_coverage)
    return train_vocabulary(params, words_with_counts(words))


def _encode_split(
    vocabulary: Vocabulary, path: Path, tokens: Path, split: str, folder: Path, executor: Executor
) -> dict[str, Any]:
    """Encode a split chunk by chunk and, if it is stored, put the chunks together; returns its statistics."""
    with chunk_progress(f"encode {split}", _chunk_count(path)) as shown:
        encoder = WordEncoder(vocabulary)
        paths = map_chunks(executor, encode_chunk, encoder, _batches(path), folder / split, shown)
    counts: dict[str, Counter[str]] = {side: Counter() for side in SIDES}
    for path in paths:
        for side, count in json.loads(read_table(path, []).schema.metadata[COUNTS]).items():
            counts[side].update(count)
    for side in SIDES if split in STORED_SPLITS else ():
        sentences, pieces = counts[side]["sentences"], counts[side]["tokens"]
        with side_writer(tokens, split, side, vocabulary.size, sentences, pieces + sentences) as writer:
            for path in paths:
                for encoded in read_table(path, [side]).column(side).chunks:
                    writer.append(encoded.flatten().to_numpy(), encoded.value_lengths().to_numpy())
    return {side: _rates(count) for side, count in counts.items()}


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
