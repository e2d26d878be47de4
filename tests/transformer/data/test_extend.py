"""Pieces added to a vocabulary that is given: old ids and old splits stay, and SentencePiece reads the result."""

import io
from collections import Counter
from pathlib import Path

import pytest
import sentencepiece
from corpora import write_tokens
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_inputs import TINY_PARAMS, synthetic_pairs
from tiny_model import tiny_vocabulary

from transformer.data.tokenize.extend import extended
from transformer.errors import DataError
from transformer.params import TokenizationParams
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

PAIRS = synthetic_pairs(200, seed=9)
WORDS = Counter(" ".join(f"{source} {target} дом домик дома" for source, target in PAIRS).split())
OTHERS = ["the", "light", "turns", "kitchen", "xyz", "Ähre", "дверь"]
OLD = tiny_vocabulary()
NEW = extended(OLD, WORDS.items(), 60, 1.0)


def apart(ids: list[int]) -> list[int]:
    """The ids with each new piece split into old ones by the old vocabulary's own merging."""
    return [one for id_ in ids for one in ([id_] if id_ < OLD.size else OLD.spell(NEW.pieces([id_])[0]))]


def test_old_ids_stay_and_new_pieces_are_used() -> None:
    assert NEW.size == OLD.size + 60
    assert NEW.pieces(list(range(OLD.size))) == OLD.pieces(list(range(OLD.size)))
    text = " ".join(WORDS)
    assert len(NEW.encode(text)) < len(OLD.encode(text))
    assert NEW.decode(NEW.encode(text)) == text


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([*WORDS, *OTHERS]), min_size=1, max_size=8))
def test_a_text_is_split_as_before_but_for_the_new_pieces(words: list[str]) -> None:
    text = " ".join(words)
    assert apart(NEW.encode(text)) == OLD.encode(text)


@settings(deadline=None, max_examples=200)
@given(st.text(alphabet="etharnsdoiklm ", min_size=1, max_size=30))
def test_any_letters_are_split_as_before_but_for_the_new_pieces(text: str) -> None:
    assert apart(NEW.encode(text)) == OLD.encode(text)


def test_characters_without_a_piece_come_first_and_kinds_are_not_joined() -> None:
    pieces = NEW.pieces(list(range(OLD.size, NEW.size)))
    characters = [piece for piece in pieces if len(piece) == 1]
    assert {"д", "о", "м"} <= set(characters)
    assert pieces[: len(characters)] == characters
    assert not any(piece.endswith(".") and len(piece) > 1 for piece in pieces)
    assert "<0x" not in "".join(NEW.pieces(NEW.encode("домик")))


def test_the_count_of_a_merge_is_that_of_the_pair_in_the_text() -> None:
    """By hand: in `abab abab ab` (each letter a piece) `ab` occurs five times, `▁ab` three times of these."""
    letters = sentencepiece_model(["a b"] * 3, 263)
    grown = extended(letters, {"abab": 2, "ab": 1}.items(), 2, 1.0)
    assert grown.pieces([letters.size, letters.size + 1]) == ["ab", "▁ab"]


def sentencepiece_model(sentences: list[str], size: int, **options: object) -> Vocabulary:
    model = io.BytesIO()
    ids = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
    settings_ = {"model_type": "bpe", "byte_fallback": True, "hard_vocab_limit": False, "minloglevel": 2, **ids}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, vocab_size=size, **{**settings_, **options}
    )
    return Vocabulary(model.getvalue())


def test_what_can_not_be_extended_is_one_line() -> None:
    with pytest.raises(DataError, match=r"new_pieces = 9999: the training split gives no more than \d+ that occur"):
        extended(OLD, WORDS.items(), 9999, 1.0)
    unigram = sentencepiece_model([source for source, _ in PAIRS], 300, model_type="unigram")
    with pytest.raises(DataError, match="only a byte-pair vocabulary can be added to"):
        extended(unigram, WORDS.items(), 5, 1.0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"pad_id": -1, "unk_id": 0, "bos_id": 1, "eos_id": 2},
            "has the special ids pad -1, unk 0, bos 1, eos 2; here",
        ),
        ({"split_by_whitespace": False}, "has pieces that cross spaces or end with them"),
        ({"treat_whitespace_as_suffix": True}, "has pieces that cross spaces or end with them"),
    ],
)
def test_a_vocabulary_that_the_stages_would_misread_is_one_line(
    tmp_path: Path, options: dict[str, object], words: str
) -> None:
    other = tmp_path / "other.model"
    other.write_bytes(sentencepiece_model([source for source, _ in PAIRS], 300, **options).model)
    splits = {"train": PAIRS[:100], "valid": PAIRS[100:120], "test": PAIRS[120:140]}
    with pytest.raises(DataError, match=words):
        write_tokens(tmp_path, splits, TokenizationParams(**TINY_PARAMS["tokenization"]), other)


def test_a_given_vocabulary_encodes_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "given.model"
    file.write_bytes(OLD.model)
    splits = {"train": PAIRS[:100], "valid": PAIRS[100:120], "test": PAIRS[120:140]}
    tokens = write_tokens(tmp_path, splits, TokenizationParams(**TINY_PARAMS["tokenization"]), file)
    assert (tokens / VOCABULARY_FILE).read_bytes() == OLD.model
