"""A network over a handful of pieces with known spellings, small enough to score every sequence."""

import itertools
from collections.abc import Iterator
from typing import cast

import torch
from uneven_network import tiny_model

from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, Vocabulary

# In the order of ids, after <pad>, <unk>, <s> and </s>: words, beginnings of words, and what goes on.
PIECES = ["▁a", "▁ab", "b", "▁{", "n", "}", "▁7"]


class Spelled:
    """Stands in for a Vocabulary of PIECES."""

    names = ("<pad>", "<unk>", "<s>", "</s>", *PIECES)
    size = len(names)

    def pieces(self, ids: list[int]) -> list[str]:
        return [self.names[piece] for piece in ids]

    def is_byte(self, _piece: int) -> bool:
        return False

    def encode(self, text: str) -> list[int]:
        """The longest pieces first."""
        rest, ids = "▁" + text.replace(" ", "▁"), list[int]()
        while rest:
            piece = max((name for name in PIECES if rest.startswith(name)), key=len, default=None)
            if piece is None:
                return [1]
            ids.append(self.names.index(piece))
            rest = rest[len(piece) :]
        return ids

    def decode(self, ids: list[int]) -> str:
        return "".join(self.names[piece] for piece in ids).replace("▁", " ").strip()


SPELLED = cast(Vocabulary, Spelled())


def network(seed: int) -> Transformer:
    return tiny_model(seed, vocabulary_size=SPELLED.size)


def all_sequences(
    models: list[Transformer], source: list[int], longest: int, alpha: float
) -> Iterator[tuple[float, list[int], str]]:
    """Score, pieces and text of every sequence of at most `longest` tokens, the end included; best first."""
    found = []
    for length in range(longest):
        words = list(itertools.product(range(4, SPELLED.size), repeat=length))
        for start in range(0, len(words), 4096):
            chunk = words[start : start + 4096]
            some = torch.tensor(chunk, dtype=torch.int64).view(len(chunk), length)
            read = torch.cat([torch.full((len(some), 1), BOS), some], 1)
            written = torch.cat([some, torch.full((len(some), 1), EOS)], 1)
            rows = torch.tensor([source]).expand(len(some), -1)
            with torch.no_grad():
                chances = torch.stack([model(rows, read).double().softmax(-1) for model in models]).mean(0)
            log_probs = chances.gather(-1, written[:, :, None]).log().sum((1, 2))
            penalty = ((5 + length + 1) / 6) ** alpha
            found += [
                (float(log_prob) / penalty, row, SPELLED.decode(row))
                for log_prob, row in zip(log_probs, some.tolist(), strict=True)
            ]
    return iter(sorted(found, reverse=True))
