"""Learning the shared byte-pair vocabulary (paper, section 5.1) from the words of the training split."""

import io
import re
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow
import pyarrow.compute as pc
import sentencepiece

from transformer.errors import DataError
from transformer.params import TokenizationParams
from transformer.tokens.store import SIDES
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

NO_WORDS = pyarrow.table({"word": pyarrow.array([], pyarrow.string()), "count": pyarrow.array([], pyarrow.int64())})


def count_words(_shared: None, pairs: pyarrow.Table) -> pyarrow.Table:
    """How often each word occurs in both sides of some pairs: columns word and count, in order of appearance."""
    words = [pc.split_pattern(text, " ").flatten() for side in SIDES for text in pairs.column(side).chunks]
    counts = pyarrow.chunked_array(words, pyarrow.string()).value_counts()
    table = pyarrow.table({"word": counts.field("values"), "count": counts.field("counts")})
    return table.filter(pc.not_equal(table.column("word"), ""))


def frequent_words(counted: Iterable[pyarrow.Table], most: int) -> pyarrow.Table:
    """Counts of words added up, in order of appearance; of more than `most` words, rare ones are left out.

    Exact while no more than `most` are distinct. Beyond, the rarer half is dropped whenever there are too many, so
    that a word that is rare throughout may be missing, and a count too small by what was dropped (Manku and Motwani
    2002, "Approximate frequency counts over data streams").
    """
    waiting = [NO_WORDS]
    for table in counted:
        waiting.append(table)
        if sum(part.num_rows for part in waiting) > 2 * most:
            waiting = [_summed(waiting, most)]
    return _summed(waiting, most)


def _summed(counted: list[pyarrow.Table], most: int) -> pyarrow.Table:
    grouped = pyarrow.concat_tables(counted).group_by("word", use_threads=False)  # threads would change the order
    words = grouped.aggregate([("count", "sum")]).rename_columns(["word", "count"])
    if words.num_rows <= most:
        return words
    kept = np.zeros(words.num_rows, dtype=bool)
    kept[np.argsort(-words.column("count").to_numpy(), kind="stable")[: most // 2]] = True
    return words.filter(pyarrow.array(kept))


def words_with_counts(counted: pyarrow.Table) -> Iterator[tuple[str, int]]:
    """The rows of a table of words and counts, with only a few in memory at a time."""
    for batch in counted.to_batches(1 << 16):
        yield from zip(*(batch.column(name).to_pylist() for name in ("word", "count")), strict=True)


def train_vocabulary(params: TokenizationParams, words: Iterable[tuple[str, int]]) -> Vocabulary:
    """Learn a byte-pair vocabulary from words, cut at white space, and how often each occurs.

    No piece crosses white space, so the merges are the same as those learned on the sentences, and memory is needed
    for the distinct words only. Text arrives clean, so SentencePiece changes nothing (`identity`). Characters too
    rare for a piece are spelled in bytes, so that nothing that a user types is lost.

    Raises:
        DataError: the words do not hold as many pieces as asked for.
    """
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=(f"{word}\t{count}" for word, count in words),
            input_format="tsv",
            model_writer=model,
            model_type="bpe",
            vocab_size=params.vocabulary_size,
            character_coverage=params.character_coverage,
            normalization_rule_name="identity",
            byte_fallback=True,
            max_sentence_length=65536,
            pad_id=PAD,
            unk_id=UNK,
            bos_id=BOS,
            eos_id=EOS,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise DataError(_in_words(params, str(error))) from None
    return Vocabulary(model.getvalue())


def _in_words(params: TokenizationParams, told: str) -> str:
    """What SentencePiece's error means for the params."""
    key = f"tokenization.vocabulary_size = {params.vocabulary_size} does not fit the training split"
    if few := re.search(r"smaller than required_chars\. \d+ vs (\d+)", told):
        coverage = f"tokenization.character_coverage = {params.character_coverage}"
        return f"{key}: its characters alone need {few[1]} pieces; raise it, or lower {coverage} (0.98 at least)"
    if many := re.search(r"value <= (\d+)", told):
        return f"{key}: its words give no more than {many[1]} pieces; lower it, or train on more text"
    return f"SentencePiece learns no vocabulary from the training split: {' '.join(told.split())}"
