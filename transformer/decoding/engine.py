"""What translates: our own search with torch, or CTranslate2 with an export of the same model."""

from collections.abc import Sequence
from pathlib import Path

from transformer.decoding.line_translator import Engine, LineTranslator
from transformer.errors import DataError, ParamsError
from transformer.export.origin import ORIGIN_FILE
from transformer.params import DecodingParams


def load_translator(
    folder: Path | Sequence[Path],
    engine: Engine = "torch",
    device: str = "auto",
    decoding: DecodingParams | None = None,
) -> LineTranslator:
    """The translator of a model folder; with torch also of several, whose probabilities are averaged.

    For `ctranslate2`, `folder` is an export, or a model folder with one beside it. `decoding` replaces the settings
    in the (first) folder's decoding.json.

    Raises:
        DataError: a folder is missing, incomplete, malformed or of another kind.
        ParamsError: the engine is not installed, has no such device, or no ensembles.
    """
    folders = [folder] if isinstance(folder, Path) else list(folder)
    if engine == "ctranslate2":
        if len(folders) > 1:
            raise ParamsError("the engine ctranslate2 has no ensembles: name one model, or take the engine torch")
        from transformer.decoding.ctranslate2 import CTranslate2Translator

        return CTranslate2Translator.load(folders[0], device, decoding)
    for one in folders:
        if (one / ORIGIN_FILE).is_file():
            raise DataError(f"{one} is an export, no model folder; one for CTranslate2 needs --engine ctranslate2")
    from transformer.decoding.translator import Translator

    return Translator.load(folders, device, decoding)
