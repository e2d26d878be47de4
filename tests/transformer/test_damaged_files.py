"""Any damage to a file that a stage reads is one line that names it, never a stack trace."""

import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch

from transformer.data.download.transfer import catalogue_languages
from transformer.errors import DataError
from transformer.evaluation.evaluate import read_test_sets
from transformer.model.checkpoints import Checkpoint, read_index, read_weights, write_checkpoint, write_index
from transformer.tokens.store import TokenSplit, side_writer

DAMAGES = 100
Case = tuple[Path, Callable[[], object]]


def archive(folder: Path) -> Case:
    path = folder / "texts.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as written:
        for language in ("en", "de"):
            written.writestr(f"a/{language}.json", json.dumps({f"key {n}": f"text {n}" for n in range(50)}))
    return path, lambda: catalogue_languages(path, "a/{language}.json")


def tokens(folder: Path, name: str) -> Case:
    def read() -> None:
        split = TokenSplit.open(folder, "train")
        split.check_ids(folder, 400)
        assert [split.source[place].sum() for place in range(len(split))]

    for side in ("source", "target"):
        with side_writer(folder, "train", side, 400, 3, 9) as writer:
            writer.append(np.arange(9, dtype=np.uint16), np.array([3, 3, 3]))
    return folder / f"train.source.{name}.npy", read


def parquet(folder: Path) -> Case:
    path = folder / "test.parquet"
    columns = {"source": ["a"] * 100, "target": ["b"] * 100, "origin": ["t/x"] * 100}
    pyarrow.parquet.write_table(pyarrow.table(columns), path, compression="zstd")
    return path, lambda: read_test_sets(path, ["t"])


def checkpoints(folder: Path) -> list[Checkpoint]:
    written = [write_checkpoint(folder, Checkpoint(update), {"w": torch.zeros(5)}, b"x") for update in (1, 2)]
    write_index(folder, written)
    return written


def index(folder: Path) -> Case:
    checkpoints(folder)
    return folder / "index.json", lambda: read_index(folder)


def weights(folder: Path) -> Case:
    path = folder / checkpoints(folder)[0].file
    return path, lambda: read_weights(path)


CASES: dict[str, Callable[[Path], Case]] = {
    "archive": archive,
    "ids": lambda folder: tokens(folder, "ids"),
    "offsets": lambda folder: tokens(folder, "offsets"),
    "index": index,
    "weights": weights,
}


@pytest.mark.parametrize("kind", CASES)
def test_flipped_bits_and_cuts_are_one_line(tmp_path: Path, kind: str) -> None:
    path, read = CASES[kind](tmp_path)
    whole, random_ = path.read_bytes(), random.Random(kind)
    read()
    told: list[str] = []
    for number in range(DAMAGES):
        content = bytearray(whole)
        if number % 5 == 4:
            content = content[: random_.randrange(len(content))]
        else:
            content[random_.randrange(len(content))] ^= 1 << random_.randrange(8)
        path.unlink()  # what is mapped into memory may not be overwritten
        path.write_bytes(content)
        try:
            read()
        except DataError as error:
            told.append(str(error))
    assert len(told) > DAMAGES / 10  # others hit text that any content would be right in
    assert [line for line in told if "\n" in line or str(tmp_path) not in line] == []


def test_a_damaged_test_set_is_one_line(tmp_path: Path) -> None:
    path, _ = parquet(tmp_path)
    whole = path.read_bytes()
    told: list[str] = []
    for place in (0, 10, len(whole) // 2, len(whole) - 6, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        try:
            read_test_sets(path, ["t"])
        except DataError as error:
            told.append(str(error))
    path.write_bytes(whole[:50])
    with pytest.raises(DataError) as caught:
        read_test_sets(path, ["t"])
    told.append(str(caught.value))
    assert len(told) > 3
    assert [line for line in told if "\n" in line or f"{path} is damaged (" not in line] == []
