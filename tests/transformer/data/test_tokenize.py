"""The vocabulary and the encoded splits: deterministic, from the training split alone, nothing lost."""

import io
import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import sentencepiece
from corpora import Pairs, write_corpus, write_tokens
from pydantic import ValidationError
from tiny_inputs import synthetic_pairs

from transformer.chunks import LocalExecutor
from transformer.data.tokenize import encode
from transformer.data.tokenize import tokenize as tokenize_stage
from transformer.data.tokenize.encode import WordEncoder
from transformer.data.tokenize.learn import count_words, frequent_words, train_vocabulary, words_with_counts
from transformer.data.tokenize.tokenize import tokenize
from transformer.errors import DataError
from transformer.params import TokenizationParams
from transformer.tokens.store import TokenSplit
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK, Vocabulary

PARAMS = TokenizationParams(
    vocabulary_size=400, character_coverage=1.0, training_pairs=10_000, model=None, new_pieces=0
)


def splits() -> dict[str, Pairs]:
    pairs = synthetic_pairs(240)
    return {"train": pairs[:200], "valid": pairs[200:220], "test": pairs[220:]}


def test_encoded_splits_decode_to_the_corpus(tmp_path: Path) -> None:
    tokens = write_tokens(tmp_path, splits(), PARAMS)
    vocabulary = Vocabulary.load(tokens / "spm.model")
    assert not list(tokens.glob("test.*"))  # evaluation reads text
    for name, pairs in splits().items():
        if name == "test":
            continue
        split = TokenSplit.open(tokens, name)
        assert len(split) == len(pairs)
        for index, (source, target) in enumerate(pairs):
            assert vocabulary.decode(split.source[index].tolist()) == source
            assert vocabulary.decode(split.target[index].tolist()) == target
            assert split.target[index].tolist() == [*vocabulary.encode(target), EOS]


def test_two_runs_write_equal_bytes(tmp_path: Path) -> None:
    first, second = (write_tokens(tmp_path / name, splits(), PARAMS) for name in "ab")
    assert [path.name for path in sorted(first.iterdir())] == [path.name for path in sorted(second.iterdir())]
    for path in first.iterdir():
        assert path.read_bytes() == (second / path.name).read_bytes()


def test_the_vocabulary_is_learned_on_the_training_split_alone(tmp_path: Path) -> None:
    first = write_tokens(tmp_path / "a", splits(), PARAMS)
    other = {**splits(), "valid": [("ß € ∞", "Ω Ж")], "test": [("unseen words", "ungesehene Wörter")]}
    second = write_tokens(tmp_path / "b", other, PARAMS)
    assert (first / "spm.model").read_bytes() == (second / "spm.model").read_bytes()


def test_characters_without_a_piece_are_spelled_in_bytes(tmp_path: Path) -> None:
    odd = {**splits(), "test": [("the cat ☃", "die Katze ☃")]}
    tokens = write_tokens(tmp_path, odd, PARAMS)
    vocabulary = Vocabulary.load(tokens / "spm.model")
    ids = vocabulary.encode("☃")
    assert sum(vocabulary.is_byte(id_) for id_ in ids) == len("☃".encode()) == 3
    assert vocabulary.decode(ids) == "☃"
    report = json.loads((tmp_path / "tokens.json").read_text())["test"]["source"]
    ids = vocabulary.encode("the cat ☃")
    assert report == {
        "sentences": 1, "tokens": len(ids), "tokens_per_word": round(len(ids) / 3, 4),
        "unknown_rate": 0.0, "byte_rate": round(3 / len(ids), 6), "round_trip_rate": 1.0,
    }  # fmt: skip


def test_text_that_does_not_come_back_is_reported(tmp_path: Path) -> None:
    write_tokens(tmp_path, {**splits(), "test": [("the  cat", "x"), ("the dog", "y")]}, PARAMS)
    report = json.loads((tmp_path / "tokens.json").read_text())["test"]
    assert report["source"]["round_trip_rate"] == 0.5  # SentencePiece folds the two spaces
    assert report["target"]["round_trip_rate"] == 1.0


def test_special_ids_are_where_the_library_expects_them() -> None:
    vocabulary = train_vocabulary(
        PARAMS, Counter(word for pair in splits()["train"] for text in pair for word in text.split()).items()
    )
    assert (PAD, UNK, BOS, EOS) == (0, 1, 2, 3)
    assert vocabulary.size == 400
    assert vocabulary.decode([BOS, *vocabulary.encode("the cat"), EOS, PAD]) == "the cat"


@pytest.mark.parametrize("coverage", [0.9, 0.979, 0.98, 0.99, 1.0, 1.001])
def test_the_limits_of_the_coverage_are_those_of_sentencepiece(coverage: float) -> None:
    """What the params allow is learned; what they refuse is refused by the library too."""
    words = [(f"w{number} x{number * 7 % 13}ab", 3) for number in range(500)]
    try:
        params = TokenizationParams(
            vocabulary_size=400, character_coverage=coverage, training_pairs=10, model=None, new_pieces=0
        )
    except ValidationError:
        params = PARAMS.model_copy(update={"character_coverage": coverage})
        with pytest.raises(DataError, match=r"SentencePiece learns no vocabulary .*character_coverage\(\) >= 0\.98"):
            train_vocabulary(params, words)
    else:
        assert train_vocabulary(params, words).size == 400


def test_characters_that_do_not_fit_the_vocabulary_name_both_knobs() -> None:
    params = TokenizationParams(
        vocabulary_size=270, character_coverage=1.0, training_pairs=10, model=None, new_pieces=0
    )
    words = [("".join(map(chr, range(0x4E00, 0x4E00 + 100))), 1)]
    told = r"size = 270 does not fit the training split: its characters alone need \d+ pieces; raise it, or lower"
    with pytest.raises(DataError, match=f"{told} tokenization.character_coverage = 1.0"):
        train_vocabulary(params, words)


def test_a_vocabulary_too_large_for_the_text_is_named(tmp_path: Path) -> None:
    params = TokenizationParams(
        vocabulary_size=20_000, character_coverage=1.0, training_pairs=10, model=None, new_pieces=0
    )
    with pytest.raises(
        DataError,
        match=r"size = 20000 does not fit the training split: its words give no more than \d+ pieces; lower",
    ):
        write_tokens(tmp_path, splits(), params)


def test_training_pairs_limits_what_is_read(tmp_path: Path) -> None:
    pairs = [("aaa bbb", "ccc ddd")] * 50
    other = pairs.copy()
    other[1::2] = [("never seen here", "nie gesehen hier")] * 25  # every second pair is skipped
    params = TokenizationParams(
        vocabulary_size=270, character_coverage=1.0, training_pairs=25, model=None, new_pieces=0
    )
    vocabularies = []
    for name, train in (("a", pairs), ("b", other)):
        held_out: dict[str, Pairs] = {"valid": pairs[:1], "test": pairs[:1]}
        vocabularies.append(
            (write_tokens(tmp_path / name, {"train": train, **held_out}, params) / "spm.model").read_bytes()
        )
    assert vocabularies[0] == vocabularies[1]


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    write_corpus(tmp_path / "corpus", {"train": splits()["train"]})
    with pytest.raises(DataError, match=r"valid\.parquet is missing: run the prepare stage first"):
        tokenize(
            PARAMS,
            tmp_path / "corpus",
            tmp_path / "tokens",
            tmp_path / "report.json",
            tmp_path / "work",
            LocalExecutor(1),
        )


def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path) -> None:
    (tmp_path / "spm.model").write_bytes(b"no model")
    with pytest.raises(DataError, match=r"spm\.model is not a SentencePiece model"):
        Vocabulary.load(tmp_path / "spm.model")
    with pytest.raises(DataError, match=r"nothing is missing: run the tokenize stage first"):
        Vocabulary.load(tmp_path / "nothing")


class Watching(LocalExecutor):
    """Notes how many bytes Arrow holds whenever a chunk is done."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self.before = pyarrow.total_allocated_bytes()
        self.held: list[int] = []

    def map(self, task: Any, shared: Any, chunks: Any) -> Iterator[Any]:
        for result in super().map(task, shared, chunks):
            self.held.append(pyarrow.total_allocated_bytes() - self.before)
            yield result


def test_the_corpus_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenize_stage, "BATCH_PAIRS", 200)
    write_corpus(tmp_path / "corpus", splits())
    texts = [" ".join([f"w{number % 50}"] * 60) for number in range(8000)]
    path = tmp_path / "corpus" / "train.parquet"
    table = pyarrow.table({"source": texts, "target": texts})
    pq.write_table(table, path, row_group_size=400, compression="none", use_dictionary=False)
    executor = Watching()
    folders = tmp_path / "corpus", tmp_path / "tokens", tmp_path / "report.json", tmp_path / "work"
    tokenize(PARAMS.model_copy(update={"vocabulary_size": 290}), *folders, executor)
    assert len(executor.held) == 2 * 40 + 2
    assert max(executor.held) < path.stat().st_size / 2


ODD = [
    "",
    " ",
    "a",
    "\u2581",
    "x \u2581 y",
    "a  b",
    " lead",
    "trail ",
    "\u00a0",
    "tab\tnew\nline",
    "☃☃ cat",
    "𝄞",
    "e\u0301",
    "\u200b",
]


def test_word_by_word_is_what_sentencepiece_makes_of_the_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encode, "LARGEST_CACHE", 50)
    sentences = [text for pair in splits()["train"] for text in pair]
    vocabulary = train_vocabulary(PARAMS, Counter(" ".join(sentences).split()).items())
    encoder = WordEncoder(vocabulary)
    random_ = random.Random(1)
    for _ in range(30):
        texts = [*random_.sample(sentences, 20), "".join(random_.choices([*ODD, *"abc ", " dog"], k=6)), *ODD]
        encoded = encoder.encode(pyarrow.array(texts))
        whole = [vocabulary.encode(text) for text in texts]
        assert encoded.ids.to_pylist() == [[*ids, EOS] for ids in whole]
        assert encoded.round_trips == sum(
            vocabulary.decode(ids) == text for ids, text in zip(whole, texts, strict=True)
        )
        assert encoded.words == sum(1 for text in texts for word in text.split(" ") if word)


def test_no_text_at_all_is_encoded() -> None:
    vocabulary = train_vocabulary(PARAMS, Counter(" ".join(chain.from_iterable(splits()["train"])).split()).items())
    encoded = WordEncoder(vocabulary).encode(pyarrow.array([], pyarrow.string()))
    assert (encoded.ids.to_pylist(), encoded.words, encoded.round_trips) == ([], 0, 0)


def counted(texts: Iterable[str]) -> list[pyarrow.Table]:
    return [count_words(None, pyarrow.table({"source": [text], "target": [""]})) for text in texts]


def test_words_are_counted_in_order_of_appearance() -> None:
    texts = ["b a b", "c a", "", "a d"]
    assert list(words_with_counts(frequent_words(counted(texts), 4))) == [("b", 2), ("a", 3), ("c", 1), ("d", 1)]


def test_of_too_many_words_the_frequent_ones_stay_with_their_counts() -> None:
    """Zipf's law, 5 000 words where 500 are kept: the first 50 are exact, and what is left out is rare."""
    drawn = np.random.default_rng(1).zipf(1.3, 60_000) % 5000
    texts = [" ".join(map(str, part)) for part in np.split(drawn, 60)]
    exact = Counter(" ".join(texts).split())
    kept = dict(words_with_counts(frequent_words(counted(texts), 500)))
    assert len(exact) > 3000
    assert len(kept) <= 500
    assert dict(exact.most_common(50)).items() <= kept.items()
    assert all(kept[word] <= exact[word] for word in kept)
    assert max(count for word, count in exact.items() if word not in kept) < 30


def test_words_with_counts_teach_what_the_sentences_do() -> None:
    """SentencePiece counts the words of sentences itself; the pieces and their scores are the same."""
    sentences = [text for pair in splits()["train"] for text in pair]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type="bpe", vocab_size=400,
        character_coverage=1.0, normalization_rule_name="identity", byte_fallback=True, minloglevel=2,
        pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS,
    )  # fmt: skip
    learned = train_vocabulary(PARAMS, Counter(" ".join(sentences).split()).items())
    both = [sentencepiece.SentencePieceProcessor(model_proto=m) for m in (model.getvalue(), learned.model)]
    first, second = ([(p.id_to_piece(i), p.get_score(i)) for i in range(400)] for p in both)
    assert first == second
