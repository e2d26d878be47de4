"""What pieces spell: the bytes that each adds to a text, and which pieces can spell given bytes."""

from bisect import bisect_left, bisect_right
from functools import lru_cache

import torch
from torch import Tensor

from transformer.tokens.vocabulary import EOS, Vocabulary

_WORD_BEGIN = "▁"


class Spelling:
    """The bytes of every piece; a space before each word, the first one included, as SentencePiece has it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        names = vocabulary.pieces(list(range(vocabulary.size)))
        self.bytes = [
            b"" if piece <= EOS else bytes([int(name[3:-1], 16)]) if vocabulary.is_byte(piece) else _spelled(name)
            for piece, name in enumerate(names)
        ]
        self._sorted = sorted((spelled, piece) for piece, spelled in enumerate(self.bytes) if spelled)
        self._keys = [spelled for spelled, _ in self._sorted]
        self._longest = max(map(len, self._keys))
        self.allowed = lru_cache(maxsize=4096)(self._allowed)

    def text(self, pieces: list[int]) -> bytes:
        """What the pieces spell together; the text itself lacks the first space."""
        return b"".join(self.bytes[piece] for piece in pieces)

    def pieces(self, spelled: bytes) -> list[int]:
        """The longest pieces, one after another, that spell these bytes; empty where the vocabulary can't."""
        found: list[int] = []
        start = 0
        while start < len(spelled):
            ends = range(min(len(spelled), start + self._longest), start, -1)
            piece = next((piece for end in ends if (piece := self._piece(spelled[start:end])) is not None), None)
            if piece is None:
                return []
            found.append(piece)
            start += len(self.bytes[piece])
        return found

    def _piece(self, spelled: bytes) -> int | None:
        place = bisect_left(self._keys, spelled)
        there = place < len(self._keys) and self._keys[place] == spelled
        # Of a character's own piece and its byte piece, the later one is the character's: ids of bytes come first.
        return self._sorted[bisect_right(self._keys, spelled) - 1][1] if there else None

    def that_begin(self, text: bytes) -> list[int]:
        """Ids of the pieces with which `text` can begin."""
        ids = list[int]()
        for end in range(1, min(len(text), self._longest) + 1):
            first, last = bisect_left(self._keys, text[:end]), bisect_right(self._keys, text[:end])
            ids += [self._sorted[place][1] for place in range(first, last)]
        return ids

    def _allowed(self, rest: bytes) -> Tensor:
        """Ids of the pieces that `rest` begins with, or that begin with `rest`; the cached form is `allowed`."""
        longer = range(bisect_left(self._keys, rest), bisect_left(self._keys, rest + b"\xff"))
        ids = {self._sorted[place][1] for place in longer}.union(self.that_begin(rest))
        return torch.tensor(sorted(ids), dtype=torch.int64)


def _spelled(name: str) -> bytes:
    return name.replace(_WORD_BEGIN, " ").encode()
