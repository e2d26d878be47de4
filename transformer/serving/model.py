"""The model that is served: loaded from a folder, and again when the folder, or what a link leads to, has changed."""

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from transformer.decoding.translation import Options, Translation
from transformer.decoding.translator import Translator
from transformer.errors import DataError, UserError
from transformer.files import files_below, sha256_of
from transformer.model.folder import read_config, read_decoding
from transformer.params import LanguageParams
from transformer.serving.metrics import Metrics
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

LOOK_SECONDS = 1.0  # between two looks at the folder
State = tuple[tuple[str, int, int, int], ...]

log = logging.getLogger(__name__)


class Engine(Protocol):
    """What translates, as `Translator` does."""

    def translate_nbest(self, lines: list[str], nbest: int = 1, *, options: Options) -> list[list[Translation]]:
        """Up to `nbest` translations of each line, best first."""


@dataclass(frozen=True)
class ServedModel:
    """A loaded model folder; `name` is its SHA-256, by which lineage and MLflow know it too."""

    engine: Engine
    vocabulary: Vocabulary
    languages: LanguageParams
    beam: int  # translations of a line that there can be
    name: str

    def tokens(self, line: str) -> int:
        """How much work a line is: its source tokens, end of sentence included."""
        return len(self.vocabulary.encode(line)) + 1


def load_served(folder: Path, device: str = "auto", precision: str | None = None) -> ServedModel:
    """The model of a folder, which has translated once; `precision` replaces the folder's own.

    Raises:
        DataError: a file is missing or malformed, or the folder was changed meanwhile.
        ParamsError: this machine has no such device.
    """
    asked = {} if precision is None else {"precision": precision}
    decoding = read_decoding(folder).model_copy(update=asked)
    engine = Translator.load(folder, device, decoding)
    engine.translate_nbest(["a"])  # the first one is slow
    languages, vocabulary = read_config(folder).languages, Vocabulary.load(folder / VOCABULARY_FILE)
    return ServedModel(engine, vocabulary, languages, decoding.beam, sha256_of(folder))


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
        if model.name != self.current.name:
            self.current = model
            log.warning("now serving %s, %s", self.folder, model.name[:12])
            self._metrics.serving(model.name)
            self._metrics.loads.labels("done").inc()


def state_of(folder: Path) -> State:
    """What changes with a model folder: which files it has, and when and how large they were written."""
    found = []
    for file in files_below(folder):
        try:
            stat = file.stat()
        except OSError:  # gone meanwhile
            continue
        found.append((str(file), stat.st_ino, stat.st_size, stat.st_mtime_ns))
    return tuple(found)
