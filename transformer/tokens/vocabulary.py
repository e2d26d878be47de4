"""The special ids, and text to piece ids and back with the shared byte-pair vocabulary (paper, section 5.1)."""

from pathlib import Path
from typing import Any

import sentencepiece

from transformer.errors import DataError

PAD, UNK, BOS, EOS = 0, 1, 2, 3
VOCABULARY_FILE = "spm.model"
SPACE = "\u2581"  # how SentencePiece spells a space


def parsed(model: bytes) -> Any:
    """SentencePiece's own message (ModelProto) of a model file: its pieces with their scores, and its settings."""
    from sentencepiece import sentencepiece_model_pb2  # here: it needs protobuf, which translating does without

    return sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]


class Vocabulary:
    """Text to piece ids and back."""

    def __init__(self, model: bytes) -> None:
        self.model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._inner: sentencepiece.SentencePieceProcessor | None = None  # without the space before a text

    def __reduce__(self) -> tuple[type["Vocabulary"], tuple[bytes]]:
        return Vocabulary, (self.model,)

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Read a SentencePiece model file.

        Raises:
            DataError: the file is missing or not a SentencePiece model.
        """
        try:
            return cls(path.read_bytes())
        except FileNotFoundError:
            raise DataError(f"{path} is missing: run the tokenize stage first (dvc repro tokenize)") from None
        except (RuntimeError, ValueError) as error:  # ValueError: its own message quotes bytes that are no UTF-8
            raise DataError(f"{path} is not a SentencePiece model: {' '.join(str(error).split())}") from None

    def check_special(self, path: Path) -> None:
        """Refuse a vocabulary that others made in another way than this project's stages read it; `path` names it.

        Raises:
            DataError: other special ids, or pieces that cross spaces.
        """
        one = self._processor
        found = {"pad": one.pad_id(), "unk": one.unk_id(), "bos": one.bos_id(), "eos": one.eos_id()}
        if tuple(found.values()) != (PAD, UNK, BOS, EOS):
            listed = ", ".join(f"{name} {id_}" for name, id_ in found.items())
            raise DataError(
                f"{path} has the special ids {listed}; here they are pad {PAD}, unk {UNK}, bos {BOS}, eos {EOS}: "
                "learn it with these (spm_train --pad_id=0 --unk_id=1 --bos_id=2 --eos_id=3)"
            )
        spec = parsed(self.model).trainer_spec
        if not spec.split_by_whitespace or spec.treat_whitespace_as_suffix:
            raise DataError(f"{path} has pieces that cross spaces or end with them, which no stage here can read")

    @property
    def size(self) -> int:
        """Number of pieces, special ids included."""
        return int(self._processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        """Piece ids without begin- or end-of-sentence."""
        ids: list[int] = self._processor.encode(text)
        return ids

    def encode_batch(self, texts: list[str]) -> list[list[int]]:
        """Piece ids of each text, on all cores."""
        ids: list[list[int]] = self._processor.encode(texts, num_threads=-1)
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text of piece ids; special ids are left out."""
        text: str = self._processor.decode([id_ for id_ in ids if id_ > EOS])
        return text

    def pieces(self, ids: list[int]) -> list[str]:
        """Each id's piece as SentencePiece writes it: `▁` begins a word, special ids are `<s>`, `</s>` and so on."""
        pieces: list[str] = self._processor.id_to_piece(ids)
        return pieces

    def decode_batch(self, sentences: list[list[int]]) -> list[str]:
        """Texts of piece ids without special ids, on all cores."""
        texts: list[str] = self._processor.decode(sentences, num_threads=-1)
        return texts

    def spell(self, text: str) -> list[int]:
        """Piece ids of a text in the middle of a word; a piece is written as `pieces` writes it."""
        if self._inner is None:
            model = parsed(self.model)
            model.normalizer_spec.add_dummy_prefix = False
            self._inner = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
        ids: list[int] = self._inner.encode(text)
        return ids

    def is_byte(self, id_: int) -> bool:
        """Whether a piece stands for one UTF-8 byte of a character that has no piece."""
        return bool(self._processor.is_byte(id_))
