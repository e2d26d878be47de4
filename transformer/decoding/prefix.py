"""Forced beginnings: every translation begins with given characters, however its pieces cut them."""

import torch
from torch import Tensor

from transformer.data.cleaning import clean_text
from transformer.decoding.spelling import Spelling


class Beginnings:
    """The characters with which the translations of a batch must begin; "" where nothing is forced.

    The last word of a beginning may go on, so that "Das Pass" finds "Das Passwort"; a space at its end says that the
    word is whole. Pieces are judged by what they spell: forcing the pieces of "Pass" would leave the model where it
    never was, as "Passwort" has pieces of its own.
    """

    def __init__(self, spelling: Spelling, texts: list[str]) -> None:
        self._spelling = spelling
        self._begin = [as_spelled(text) for text in texts]
        self._over = not any(self._begin)
        self.lengths = [len(spelling.pieces(begun)) for begun in self._begin]  # of one way to write each, in pieces

    def hide_others(self, logits: Tensor, sentences: Tensor, tokens: Tensor, is_open: Tensor) -> None:
        """Set to -inf, in `logits` (N * K, V), what contradicts the beginning.

        `sentences` (N,) are indices in the batch, `tokens` (N, K, T) the pieces so far, and `is_open` (N, K) says
        which of them are hypotheses at all.
        """
        if self._over:
            return
        self._over = True
        places = tokens.shape[1]
        rows = zip(sentences.tolist(), tokens.tolist(), is_open.tolist(), strict=True)
        for row, (sentence, hypotheses, which) in enumerate(rows):
            for place, pieces in enumerate(hypotheses):
                begun = self._begin[sentence]
                if not which[place] or len(spelled := self._spelling.text(pieces)) >= len(begun):
                    continue
                self._over = False
                allowed = self._spelling.allowed(begun[len(spelled) :]).to(logits.device)
                kept = logits[row * places + place, allowed]
                logits[row * places + place] = -torch.inf
                logits[row * places + place, allowed] = kept


def as_spelled(beginning: str) -> bytes:
    """A beginning as pieces spell it: cleaned, and with the space before its first word."""
    text = clean_text(beginning)
    if not text:
        return b""
    return f" {text}{' ' if beginning[-1].isspace() else ''}".encode()
