"""Sentences encoded word by word: no piece crosses a space, so each distinct word is encoded once and looked up."""

import json
from collections import Counter
from itertools import chain

import numpy as np
import pyarrow

from transformer.data.tokenize.store import SIDES, id_type
from transformer.data.tokenize.vocabulary import EOS, UNK, Vocabulary

COUNTS = b"counts"
SPACE_MARK = "\u2581"  # how SentencePiece spells a space; text that has one of its own is encoded whole
LARGEST_CACHE = 1 << 19  # words; about 100 MB


def count_words(_shared: None, pairs: pyarrow.Table) -> pyarrow.Table:
    """How often each word occurs in both sides of some pairs: columns word and count, in order of appearance."""
    counts: Counter[str] = Counter()
    for side in SIDES:
        for text in pairs.column(side).to_pylist():
            counts.update(text.split())
    return pyarrow.table({"word": list(counts), "count": pyarrow.array(counts.values(), pyarrow.int64())})


class WordEncoder:
    """Sentences to the bytes of their ids, EOS included; remembers words it has seen."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.dtype = id_type(vocabulary.size)
        self.is_byte = np.array([vocabulary.is_byte(id_) for id_ in range(vocabulary.size)])
        self._end = self._bytes([EOS])
        self._words: dict[str, bytes] = {}
        self._lossy: set[str] = set()  # words that do not come back

    def encode(self, texts: list[str]) -> tuple[list[bytes], int]:
        """The ids of each text as bytes of `dtype`, and how many texts decoding gives back."""
        words = [text.split(" ") for text in texts]
        self._learn(set(chain.from_iterable(words)))
        encoded, round_trips = [], 0
        for text, parts in zip(texts, words, strict=True):
            if SPACE_MARK in text:
                encoded.append(self._bytes([*self.vocabulary.encode(text), EOS]))
                continue
            encoded.append(b"".join(map(self._words.__getitem__, parts)) + self._end)
            # SentencePiece drops further spaces: an empty part is lost, unless the text has nothing else.
            round_trips += ("" not in parts or not text) and self._lossy.isdisjoint(parts)
        return encoded, round_trips

    def _learn(self, words: set[str]) -> None:
        if len(self._words) > LARGEST_CACHE:
            self._words.clear()
            self._lossy.clear()
        new = sorted(words - self._words.keys())
        encoded = self.vocabulary.encode_batch(new)
        flat, end = self._bytes(list(chain.from_iterable(encoded))), 0
        for word, ids in zip(new, encoded, strict=True):
            begin, end = end, end + len(ids) * self.dtype.itemsize
            self._words[word] = flat[begin:end]
        decoded = self.vocabulary.decode_batch(encoded)
        self._lossy.update(word for word, text in zip(new, decoded, strict=True) if word != text)

    def _bytes(self, ids: list[int]) -> bytes:
        return np.array(ids, self.dtype).tobytes()


def encode_chunk(encoder: WordEncoder, pairs: pyarrow.Table) -> pyarrow.Table:
    """Both sides of some pairs as bytes of ids, EOS included; the metadata COUNTS tells what each side holds."""
    columns, counts = {}, {}
    for side in SIDES:
        texts = pairs.column(side).to_pylist()
        encoded, round_trips = encoder.encode(texts)
        ids = np.frombuffer(b"".join(encoded), encoder.dtype)
        columns[side] = pyarrow.array(encoded, pyarrow.binary())
        counts[side] = {
            "sentences": len(texts),
            "words": sum(len(text.split()) for text in texts),
            "tokens": len(ids) - len(texts),
            "unknown": int(np.sum(ids == UNK)),
            "bytes": int(np.sum(encoder.is_byte[ids])),
            "round_trips": round_trips,
        }
    return pyarrow.table(columns).replace_schema_metadata({COUNTS: json.dumps(counts)})
