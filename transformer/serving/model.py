"""The model that is served: loaded from a folder, and again when the folder, or what a link leads to, has changed.

An export for CTranslate2 that is made, renewed or removed beside the folder is such a change too.
"""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from transformer.decoding.engine import load_translator
from transformer.decoding.line_translator import LineTranslator
from transformer.decoding.translation import Options, Translation
from transformer.errors import DataError, ParamsError, UserError
from transformer.export.origin import ORIGIN_FILE, export_places, exported_folder, read_origin
from transformer.files import files_below, sha256_of
from transformer.params import DecodingParams, LanguageParams, read_decoding
from transformer.serving.metrics import Metrics
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

LOOK_SECONDS = 1.0  # between two looks at the folder
EngineChoice = Literal["auto", "torch", "ctranslate2"]
State = tuple[tuple[str, int, int, int], ...]

log = logging.getLogger(__name__)


class Translating(Protocol):
    """What translates, as `Translator` does."""

    def translate_nbest(self, lines: list[str], nbest: int = 1, *, options: Options) -> list[list[Translation]]:
        """Up to `nbest` translations of each line, best first."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded model folder; `name` is its SHA-256, by which lineage and MLflow know it too."""

    engine: Translating
    vocabulary: Vocabulary
    languages: LanguageParams
    beam: int  # translations of a line that there can be
    name: str
    engine_name: Literal["torch", "ctranslate2"] = "torch"
    reason: str = ""  # for this engine

    @property
    def gives_details(self) -> bool:
        """Whether it tells tokens, their scores and where attention was."""
        return self.engine_name == "torch"

    def tokens(self, line: str) -> int:
        """How much work a line is: its source tokens, end of sentence included."""
        return len(self.vocabulary.encode(line)) + 1


def load_served(
    folder: Path, device: str = "auto", precision: str | None = None, engine: EngineChoice = "auto"
) -> ServedModel:
    """The model of a folder, which has translated once; `precision`, of the engine torch, replaces the folder's own.

    With the engine `auto` it is CTranslate2 where the folder is an export, or one stands beside it and can be used.

    Raises:
        DataError: a file is missing or malformed, or the folder was changed meanwhile.
        ParamsError: the engine is not installed, or this machine has no such device.
    """
    exported = (folder / ORIGIN_FILE).is_file()
    decoding = read_decoding(folder)
    if precision is not None:
        decoding = decoding.model_copy(update={"precision": precision})
    if engine == "auto":
        translator, reason = _chosen(folder, device, decoding, exported, precision)
    else:
        translator, reason = load_translator(folder, engine, device, decoding), "as asked for"
    reason = reason.replace(f"{Path.cwd()}/", "")
    translator.translate_nbest(["a"])  # the first one is slow
    if translator.engine == "torch":
        from transformer.model.folder import read_config  # here, as it needs torch

        languages = read_config(folder).languages
    else:
        languages = read_origin(exported_folder(folder, "ctranslate2")).languages
    vocabulary, name = Vocabulary.load(folder / VOCABULARY_FILE), sha256_of(folder)
    return ServedModel(translator, vocabulary, languages, decoding.beam, name, translator.engine, reason)


def _chosen(
    folder: Path, device: str, decoding: DecodingParams, exported: bool, precision: str | None
) -> tuple[LineTranslator, str]:
    """CTranslate2 where it can be had, and why it is, or is not."""
    try:
        if precision is not None:
            raise ParamsError("--precision is of the engine torch")
        found = load_translator(folder, "ctranslate2", device, decoding)
    except (DataError, ParamsError) as error:
        if exported:  # there is nothing else to translate with
            raise
        return load_translator(folder, "torch", device, decoding), str(error)
    place = exported_folder(folder, "ctranslate2")
    return found, f"{place} has {read_origin(place).quantization} weights"


class WatchedModel:
    """The newest model of a folder that could be loaded. Who asks for it keeps it for as long as they need it."""

    def __init__(self, folder: Path, load: Callable[[Path], ServedModel], metrics: Metrics) -> None:
        """Load it.

        Raises:
            UserError: it can't be loaded.
        """
        self.folder, self._load, self._metrics = folder, load, metrics
        self.problem: str | None = None  # why the folder's model is not the one that is served
        self._state, self.current = self._loaded()
        metrics.serving(self.current.name)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="model watch", daemon=True)

    def start(self) -> None:
        """Look at the folder from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stop.set()

    def _loaded(self) -> tuple[State, ServedModel]:
        folder = Path(os.path.realpath(self.folder))  # a link that moves meanwhile must not mix two models
        state = state_of(folder)
        model = self._load(folder)
        if state_of(folder) != state:
            raise DataError(f"{self.folder} was changed while it was read")
        return state, model

    def _watch(self) -> None:
        seen = self._state
        while not self._stop.wait(LOOK_SECONDS):
            now = state_of(Path(os.path.realpath(self.folder)))
            if now == seen and now != self._state:  # written to its end, it seems: nothing has changed for a while
                self._reload(now)
            seen = now

    def _reload(self, state: State) -> None:
        try:
            self._state, model = self._loaded()
        except Exception as error:  # whatever the new one is, the old one goes on
            self._state = state  # not tried again until something changes
            told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            self.problem = f"not loaded: {' '.join(told.split())[:500]}"
            log.warning("%s; the model of before goes on", self.problem)
            self._metrics.loads.labels("failed").inc()
            return
        self.problem = None
        now = self.current
        if (model.name, model.engine_name, model.reason) != (now.name, now.engine_name, now.reason):
            self.current = model
            log.warning("now serving %s, %s, %s", self.folder, model.name[:12], about_engine(model))
            self._metrics.serving(model.name)
            self._metrics.loads.labels("done").inc()


def about_engine(model: ServedModel) -> str:
    """Which engine translates, and why, in one line."""
    return f"engine {model.engine_name}: {model.reason}"


def state_of(folder: Path) -> State:
    """What changes with a model folder or an export of it: its files, when and how large they were written."""
    found = []
    for file in (*files_below(folder), *(place / ORIGIN_FILE for place in export_places(folder, "ctranslate2"))):
        try:
            stat = file.stat()
        except OSError:  # gone meanwhile
            continue
        found.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
