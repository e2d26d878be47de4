"""Encoded splits on disk: one flat array of ids and one of offsets a side, opened by memory map."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

from transformer.errors import DataError
from transformer.files import atomic_path

IDS_AT_A_TIME = 1 << 24
Side = Literal["source", "target"]
SIDES: tuple[Side, Side] = ("source", "target")
OLD_VALID = "parent-valid"  # the validation split of the corpus that the parent was trained on
CURE = "python -m flows.restore tokenize, or dvc repro tokenize"


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

    def check_ids(self, tokens: Path, vocabulary_size: int) -> None:
        """Read every id once.

        Raises:
            DataError: one is not a piece of the vocabulary; names the folder `tokens`.
        """
        for side, held in zip(SIDES, (self.source, self.target), strict=True):
            for begin in range(0, len(held.ids), IDS_AT_A_TIME):
                largest = int(held.ids[begin : begin + IDS_AT_A_TIME].max())
                if largest >= vocabulary_size:
                    raise DataError(f"{tokens}: a {side} file is damaged: the id {largest} is no piece: {CURE}")


def ids_file(tokens: Path, split: str, side: Side) -> Path:
    """Where the flat ids of one side of a split are."""
    return tokens / f"{split}.{side}.ids.npy"


def offsets_file(tokens: Path, split: str, side: Side) -> Path:
    """Where the sentence offsets of one side of a split are."""
    return tokens / f"{split}.{side}.offsets.npy"


def id_type(vocabulary_size: int) -> np.dtype[np.unsignedinteger]:
    """The smallest type that holds every id."""
    return np.dtype(np.uint16 if vocabulary_size <= 1 << 16 else np.uint32)


class SideWriter:
    """Writes one side of a split sentence by sentence; the numbers of sentences and tokens are known beforehand."""

    def __init__(self, ids: BinaryIO, offsets: BinaryIO, vocabulary_size: int, sentences: int, tokens: int) -> None:
        self._ids, self._offsets = ids, offsets
        self._end = 0
        _write_header(ids, id_type(vocabulary_size), tokens)
        _write_header(offsets, np.dtype(np.int64), sentences + 1)
        self._offsets.write(np.zeros(1, np.int64).tobytes())

    def append(self, ids: Buffer, lengths: NDArray[np.int64]) -> None:
        """Add sentences: their ids one after the other, each sentence with EOS, and their numbers of tokens."""
        offsets = self._end + np.cumsum(lengths, dtype=np.int64)
        self._ids.write(ids)
        self._offsets.write(offsets.tobytes())
        self._end = int(offsets[-1]) if len(offsets) else self._end


@contextmanager
def side_writer(
    tokens: Path, split: str, side: Side, vocabulary_size: int, sentences: int, token_count: int
) -> Iterator[SideWriter]:
    """A writer of `sentences` sentences with `token_count` tokens; the files appear after a block without error."""
    with (
        atomic_path(ids_file(tokens, split, side)) as ids_path,
        atomic_path(offsets_file(tokens, split, side)) as offsets_path,
        ids_path.open("wb") as ids,
        offsets_path.open("wb") as offsets,
    ):
        yield SideWriter(ids, offsets, vocabulary_size, sentences, token_count)


def _write_header(stream: BinaryIO, dtype: np.dtype[Any], count: int) -> None:
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(stream, header)


def _open_side(tokens: Path, split: str, side: Side) -> TokenSide:
    paths = ids_file(tokens, split, side), offsets_file(tokens, split, side)
    for path in paths:
        if not path.exists():
            raise DataError(f"{path} is missing: run the tokenize stage first (dvc repro tokenize)")
    ids, offsets = map(_open, paths)
    if ids.dtype not in (np.uint16, np.uint32) or offsets.dtype != np.int64 or not len(offsets):
        raise DataError(f"{paths[0]} or {paths[1].name} is damaged: not the types of token ids: {CURE}")
    if offsets[0] != 0 or offsets[-1] != len(ids) or np.any(np.diff(offsets) < 0):
        raise DataError(f"{paths[1]} is damaged: its offsets do not divide the {len(ids)} ids: {CURE}")
    return TokenSide(ids, offsets)


def _open(path: Path) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError, SyntaxError, TokenError, TypeError, MemoryError) as error:
        reason = " ".join(str(error).split())[:80]
        raise DataError(f"{path} is damaged ({reason}): {CURE}") from None
    if array.ndim != 1:
        raise DataError(f"{path} is damaged: not a flat array: {CURE}")
    return array
