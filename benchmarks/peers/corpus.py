"""Captions in our pieces: as the ids that ours and Hugging Face's read, and as the text that the others do."""

import shutil
from pathlib import Path

from benchmarks.gpu.bundle import preset_data
from benchmarks.presets import PRESETS
from transformer.errors import DataError
from transformer.files import write_text
from transformer.tokens.store import SIDES, TokenSplit
from transformer.tokens.vocabulary import EOS, VOCABULARY_FILE, Vocabulary

PRESET = "multi30k"
STAMP = "made-from.yaml"


def corpus(folder: Path) -> Path:
    """The folder with the preset's tokens and their text, made where it is not there yet.

    Raises:
        UserError: a source cannot be had, or is not what the registry says.
    """
    preset = (PRESETS / f"{PRESET}.yaml").read_text(encoding="utf-8")
    stamp = folder / STAMP
    if not stamp.exists() or stamp.read_text(encoding="utf-8") != preset:
        shutil.rmtree(folder, ignore_errors=True)
        preset_data(PRESET, folder)
        write_pieces(folder)
        write_text(stamp, preset)
    return folder


def write_pieces(folder: Path) -> None:
    """`tokens/` as text: `pieces/train.SIDE`, a line a sentence, and `pieces.txt`, the vocabulary.

    Raises:
        DataError: a piece holds a space, which would divide it.
    """
    vocabulary = Vocabulary.load(folder / "tokens" / VOCABULARY_FILE)
    pieces = vocabulary.pieces(list(range(vocabulary.size)))
    if wrong := [piece for piece in pieces if piece.split() != [piece]]:
        raise DataError(f"{folder}: the piece {wrong[0]!r} holds a space: other toolkits would read two")
    write_text(folder / "pieces.txt", "".join(f"{piece}\n" for piece in pieces[EOS + 1 :]))
    train = TokenSplit.open(folder / "tokens", "train")
    for side, held in zip(SIDES, (train.source, train.target), strict=True):
        lines = (" ".join(pieces[id_] for id_ in held[index][:-1].tolist()) for index in range(len(held)))
        write_text(folder / "pieces" / f"train.{side}", "".join(f"{line}\n" for line in lines))
