"""The segmentation of a given translation that the model finds likeliest.

A text can be cut into pieces in many ways, and the search may write it in other pieces than the vocabulary would: so
does it in 5 % of the default preset's translations, and in the vocabulary's pieces those have another probability.
"""

from functools import cache

import torch
from torch import Tensor

from transformer.decoding.prefix import Beginnings
from transformer.decoding.spelling import Spelling
from transformer.tokens.vocabulary import EOS


class WholeTexts(Beginnings):
    """The texts of a batch: a search with these finds segmentations of them, and nothing else."""

    def __init__(self, spelling: Spelling, texts: list[str]) -> None:
        super().__init__(spelling, texts)
        self._widths = torch.tensor(list(map(len, spelling.bytes)))
        self._spaced = torch.tensor([spelled.startswith(b" ") for spelled in spelling.bytes])
        self._next = cache(self._pieces_after)

    def hide_others(self, logits: Tensor, sentences: Tensor, tokens: Tensor, is_open: Tensor) -> None:
        """Set to -inf, in `logits` (N * K, V), what does not spell the text; arguments as of `Beginnings`."""
        spelled = self._spelled(tokens.cpu()).tolist()
        rows, columns, row = list[int](), list[int](), 0
        for sentence, places, opens in zip(sentences.tolist(), spelled, is_open.tolist(), strict=True):
            for begun, goes_on in zip(places, opens, strict=True):
                if goes_on:
                    pieces = self._next(sentence, begun)
                    rows += [row] * len(pieces)
                    columns += pieces
                row += 1
        allowed = torch.full_like(logits, -torch.inf)
        allowed[rows, columns] = 0.0
        logits += allowed

    def _spelled(self, tokens: Tensor) -> Tensor:
        """The bytes (N, K) of a text that pieces (N, K, T) have written, the space before it included."""
        written = self._widths[tokens].sum(2)
        return written + ~self._spaced[tokens[:, :, 0]] if tokens.shape[2] else written

    def _pieces_after(self, sentence: int, begun: int) -> list[int]:
        """What can follow the first `begun` bytes of a text, whose first word may stand without a space."""
        rests = [self._begin[sentence][begun:]] + [self._begin[sentence][1:]] * (begun == 0)
        return [piece for rest in rests for piece in self._spelling.that_begin(rest)] or [EOS]
