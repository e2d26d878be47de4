"""A batch of sentence pairs: what the readers yield and the rest of `prepare` works on."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import NamedTuple

Advance = Callable[[int], None]  # told by a reader how many further bytes of its files are behind it


class Pair(NamedTuple):
    """A sentence, its translation and where they come from: a part's name, optionally "/" and a sub-origin."""

    source: str
    target: str
    origin: str


@dataclass
class PairBatch:
    """Aligned columns of a bounded number of pairs."""

    source: list[str] = field(default_factory=list)
    target: list[str] = field(default_factory=list)
    origin: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Pair]:
        return map(Pair, self.source, self.target, self.origin)

    def append(self, pair: Pair) -> None:
        """Add one pair at the end."""
        self.source.append(pair.source)
        self.target.append(pair.target)
        self.origin.append(pair.origin)

    def extend(self, other: "PairBatch") -> None:
        """Add all pairs of `other` at the end."""
        self.source += other.source
        self.target += other.target
        self.origin += other.origin

    def split_at(self, count: int) -> tuple["PairBatch", "PairBatch"]:
        """The first `count` pairs and the rest."""
        return (
            PairBatch(self.source[:count], self.target[:count], self.origin[:count]),
            PairBatch(self.source[count:], self.target[count:], self.origin[count:]),
        )


def batched(pairs: Iterable[Pair], batch_pairs: int) -> Iterator[PairBatch]:
    """`pairs` in batches of at most `batch_pairs`."""
    iterator = iter(pairs)
    while chunk := list(islice(iterator, batch_pairs)):
        source, target, origin = map(list, zip(*chunk, strict=True))
        yield PairBatch(source, target, origin)
