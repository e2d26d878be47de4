"""Text in, text out: cleaning, segmentation, batching by length, search, and the order restored."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch

from transformer.data.cleaning import clean_text
from transformer.decoding.search import Hypothesis, beam_search
from transformer.errors import DeviceMemoryError
from transformer.model.device import autocast, select_device, select_search_precision
from transformer.model.folder import load_model, read_decoding
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams
from transformer.progress import ignore_progress
from transformer.tokens.vocabulary import EOS, PAD, Vocabulary

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Translation:
    """A translated line and its score, log P / length penalty."""

    text: str
    score: float


NOTHING = Translation("", 0.0)  # the only translation of an empty line


class Translator:
    """A model and its vocabulary on a device, with the settings of its search."""

    def __init__(
        self,
        model: Transformer,
        vocabulary: Vocabulary,
        decoding: DecodingParams,
        device: torch.device,
    ) -> None:
        self.model = model.to(device).eval()
        self.vocabulary = vocabulary
        self.decoding = decoding
        self.device = device
        self.precision = select_search_precision(decoding.precision, device)

    @classmethod
    def load(cls, folder: Path, device: str = "auto", decoding: DecodingParams | None = None) -> Self:
        """The translator of a model folder; `decoding` replaces the settings in its decoding.json.

        Raises:
            DataError: the folder is missing, incomplete or malformed.
            ParamsError: this machine has no such device.
        """
        chosen = select_device(device)
        loaded = load_model(folder, chosen)
        settings = decoding or read_decoding(folder)
        return cls(loaded.model, loaded.vocabulary, settings, chosen)

    def translate(self, lines: list[str]) -> list[str]:
        """The best translation of each line; empty lines stay empty."""
        return [translations[0].text for translations in self.translate_nbest(lines)]

    def translate_nbest(
        self,
        lines: list[str],
        nbest: int = 1,
        *,
        first_line: int = 1,
        on_translated: Callable[[int], None] = ignore_progress,
    ) -> list[list[Translation]]:
        """Up to `nbest` (at most the beam) translations of each line, best first.

        An empty line has one empty translation. Lines longer than the model's positions are cut, with one
        warning that names them; `first_line` is the number of `lines[0]` in it. `on_translated` is called
        with the number of sentences of each batch.

        Raises:
            DeviceMemoryError: a batch does not fit the device's memory.
        """
        sources = self._encode(lines, first_line)
        translated = [[NOTHING]] * len(lines)
        on_translated(sum(not source for source in sources))
        for batch in batches_by_length(list(map(len, sources)), self.decoding.batch_tokens):
            found = self._search([sources[index] for index in batch], nbest)
            for index, hypotheses in zip(batch, found, strict=True):
                translated[index] = [self._translation(hypothesis) for hypothesis in hypotheses]
            on_translated(len(batch))
        return translated

    def _encode(self, lines: list[str], first_line: int) -> list[list[int]]:
        """Token ids with EOS of each line, nothing for an empty one."""
        limit = self.model.params.max_positions - 1
        encoded = self.vocabulary.encode_batch([clean_text(line) for line in lines])
        cut = [str(number) for number, ids in enumerate(encoded, first_line) if len(ids) > limit]
        if cut:
            where = f"line {cut[0]} is" if len(cut) == 1 else f"lines {', '.join(cut)} are"
            log.warning("%s longer than the model's %d tokens: only the beginning is translated", where, limit)
        return [[*ids[:limit], EOS] if ids else [] for ids in encoded]

    def _search(self, sources: list[list[int]], nbest: int) -> list[list[Hypothesis]]:
        params, longest = self.decoding, max(map(len, sources))
        padded = torch.tensor([source + [PAD] * (longest - len(source)) for source in sources])
        try:
            with torch.inference_mode(), autocast(self.device, self.precision):
                return beam_search(self.model, padded.to(self.device), params, nbest)
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"{len(sources)} sentences of up to {longest} tokens with beam {params.beam} do not fit "
                f"the memory of {self.device}: lower decoding.batch_tokens = {params.batch_tokens} or the beam"
            ) from None

    def _translation(self, hypothesis: Hypothesis) -> Translation:
        # Byte pieces can spell a line break, which would tear one translation into two lines.
        return Translation(" ".join(self.vocabulary.decode(hypothesis.tokens).split()), hypothesis.score)


def batches_by_length(lengths: list[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of the non-empty sentences, longest first, in batches of at most `batch_tokens` padded tokens.

    A sentence longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > batch_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
