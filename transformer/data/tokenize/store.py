"""Encoded splits on disk: one flat array of ids and one of offsets a side, opened by memory map."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from transformer.data.tokenize.vocabulary import EOS
from transformer.errors import DataError
from transformer.files import atomic_path

Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")


@dataclass(frozen=True)
class TokenSide:
    """The sentences of one language: `ids[offsets[i]:offsets[i + 1]]` is sentence i, its last id EOS."""

    ids: NDArray[np.unsignedinteger]
    offsets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> NDArray[np.unsignedinteger]:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each sentence, EOS included."""
        return np.diff(self.offsets)


@dataclass(frozen=True)
class TokenSplit:
    """The aligned sides of one split."""

    source: TokenSide
    target: TokenSide

    def __len__(self) -> int:
        return len(self.source)

    @classmethod
    def open(cls, tokens: Path, split: str) -> "TokenSplit":
        """Memory-map a split below the tokens folder; nothing is read yet.

        Raises:
            DataError: a file is missing or the sides are not aligned.
        """
        source, target = (_open_side(tokens, split, side) for side in SIDES)
        if len(source) != len(target):
            raise DataError(f"{tokens}: {split} holds {len(source)} source but {len(target)} target sentences")
        return cls(source, target)


def ids_file(tokens: Path, split: str, side: Side) -> Path:
    """Where the flat ids of one side of a split are."""
    return tokens / f"{split}.{side}.ids.npy"


def offsets_file(tokens: Path, split: str, side: Side) -> Path:
    """Where the sentence offsets of one side of a split are."""
    return tokens / f"{split}.{side}.offsets.npy"


class SideWriter:
    """Appends encoded sentences of one side to a raw file; `close` turns it into the two arrays."""

    def __init__(self, tokens: Path, split: str, side: Side, vocabulary_size: int) -> None:
        self._ids_file = ids_file(tokens, split, side)
        self._offsets_file = offsets_file(tokens, split, side)
        self._dtype = np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)
        self._lengths: list[NDArray[np.int64]] = []
        self._raw = self._ids_file.with_suffix(".raw")
        self._stream = self._raw.open("wb")

    def append(self, sentences: Iterable[list[int]]) -> None:
        """Add sentences of piece ids without EOS."""
        ended = [[*ids, EOS] for ids in sentences]
        self._lengths.append(np.fromiter(map(len, ended), np.int64, len(ended)))
        for ids in ended:
            self._stream.write(np.asarray(ids, self._dtype).tobytes())

    def close(self) -> None:
        """Write the arrays; ids are copied through a memory map, never held as a whole."""
        self._stream.close()
        offsets = np.concatenate([np.zeros(1, np.int64), *self._lengths]).cumsum()
        with atomic_path(self._ids_file) as temporary:
            flat = np.lib.format.open_memmap(temporary, "w+", self._dtype, (int(offsets[-1]),))
            if len(flat):
                flat[:] = np.memmap(self._raw, self._dtype, "r")
            flat.flush()
        with atomic_path(self._offsets_file) as temporary, temporary.open("wb") as stream:
            np.save(stream, offsets)
        self._raw.unlink()


def _open_side(tokens: Path, split: str, side: Side) -> TokenSide:
    paths = ids_file(tokens, split, side), offsets_file(tokens, split, side)
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is missing: run the tokenize stage first (dvc repro tokenize)")
    ids, offsets = (np.load(path, mmap_mode="r") for path in paths)
    return TokenSide(ids, offsets)
