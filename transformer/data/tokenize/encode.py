"""Sentences encoded word by word: no piece crosses a space, so each distinct word is encoded once and looked up."""

import json
from itertools import chain
from typing import NamedTuple

import numpy as np
import pyarrow
import pyarrow.compute as pc
from numpy.typing import NDArray

from transformer.tokens.ranges import offsets, ranges
from transformer.tokens.store import SIDES, id_type
from transformer.tokens.vocabulary import EOS, SPACE, UNK, Vocabulary

COUNTS = b"counts"
LARGEST_CACHE = 1 << 19  # words; about 100 MB


class Encoded(NamedTuple):
    """Some texts as ids."""

    ids: pyarrow.ListArray  # the ids of each text, EOS included
    words: int  # in all texts, cut at spaces
    round_trips: int  # texts that decoding restores


class WordEncoder:
    """Sentences to ids, EOS included; remembers the words that it has encoded."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self.dtype = id_type(vocabulary.size)
        self.is_byte = np.array([vocabulary.is_byte(id_) for id_ in range(vocabulary.size)])
        self._words: dict[str, bytes] = {}
        self._lossy: set[str] = set()  # words that decoding does not restore

    def encode(self, texts: pyarrow.Array) -> Encoded:
        """Encode an array of strings."""
        parts = pc.split_pattern(texts, " ")
        words = int(np.count_nonzero(pc.binary_length(parts.flatten())))
        marked = pc.match_substring(texts, SPACE)  # text that contains it is encoded whole
        if pc.any(marked).as_py():
            whole = pyarrow.ListArray.from_arrays(np.arange(len(texts) + 1, dtype=np.int32), texts)
            parts = pc.if_else(marked, whole, parts)
        coded = parts.flatten().dictionary_encode()
        which = coded.indices.to_numpy()
        pieces, lengths, lossy = self._look_up(coded.dictionary.to_pylist())
        ids = pieces[ranges(offsets(lengths)[which], lengths[which])]
        first_word = offsets(parts.value_lengths().to_numpy())  # of each text
        first_id = offsets(lengths[which])[first_word]
        ended = np.insert(ids, first_id[1:], EOS)
        lost = np.diff(offsets(lossy[which])[first_word])
        comes_back = (lost == 0) | (pc.binary_length(texts).to_numpy() == 0)
        listed = pyarrow.ListArray.from_arrays((first_id + np.arange(len(first_id))).astype(np.int32), ended)
        return Encoded(listed, words, int(np.sum(comes_back)))

    def _look_up(self, words: list[str]) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64], NDArray[np.bool_]]:
        """The ids of all words concatenated, and for each word how many it has and whether decoding loses it."""
        self._learn(words)
        found = [self._words[word] for word in words]
        lengths = np.fromiter(map(len, found), np.int64, len(found)) // self.dtype.itemsize
        # Between two spaces is an empty word, and SentencePiece drops the second space.
        lossy = np.fromiter((not word or word in self._lossy for word in words), bool, len(words))
        return np.frombuffer(b"".join(found), self.dtype), lengths, lossy

    def _learn(self, words: list[str]) -> None:
        if len(self._words) > LARGEST_CACHE:
            self._words.clear()
            self._lossy.clear()
        new = [word for word in words if word not in self._words]
        encoded = self.vocabulary.encode_batch(new)
        flat, end = np.array(list(chain.from_iterable(encoded)), self.dtype).tobytes(), 0
        for word, ids in zip(new, encoded, strict=True):
            begin, end = end, end + len(ids) * self.dtype.itemsize
            self._words[word] = flat[begin:end]
        decoded = self.vocabulary.decode_batch(encoded)
        self._lossy.update(word for word, text in zip(new, decoded, strict=True) if word != text)


def encode_chunk(encoder: WordEncoder, pairs: pyarrow.Table) -> pyarrow.Table:
    """Both sides of some pairs as lists of ids, EOS included; the metadata COUNTS has the statistics of each side."""
    columns, counts = {}, {}
    for side in SIDES:
        texts = pairs.column(side).combine_chunks()
        encoded = encoder.encode(texts)
        columns[side] = encoded.ids
        ids = encoded.ids.flatten().to_numpy()
        counts[side] = {
            "sentences": len(texts),
            "words": encoded.words,
            "tokens": len(ids) - len(texts),
            "unknown": int(np.sum(ids == UNK)),
            "bytes": int(np.sum(encoder.is_byte[ids])),
            "round_trips": encoded.round_trips,
        }
    return pyarrow.table(columns).replace_schema_metadata({COUNTS: json.dumps(counts)})
