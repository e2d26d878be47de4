"""Our own search as a translator of lines: one model or an ensemble, n-best lists, samples, protected text."""

import logging
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from transformer.data.cleaning import clean_text
from transformer.data.placeholders import not_kept
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.hypothesis import Hypothesis
from transformer.decoding.line_translator import LineTranslator, SourceSentence, Translated, batches_by_length
from transformer.decoding.prefix import Beginnings
from transformer.decoding.protection import Wanted, protected_search
from transformer.decoding.sampling import sample
from transformer.decoding.scoring import score_tokens
from transformer.decoding.search import beam_search, longest_lengths
from transformer.decoding.side_by_side import side_by_side
from transformer.decoding.stepping import SteppingNetwork
from transformer.decoding.translation import Details, Options, Translation, distinct
from transformer.errors import DataError, DeviceMemoryError
from transformer.languages import is_unsegmented
from transformer.model.device import autocast, select_device, select_search_precision
from transformer.model.folder import load_model
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, read_decoding
from transformer.tokens.vocabulary import EOS, PAD, Vocabulary

log = logging.getLogger(__name__)
CPU_SENTENCES = 64  # of a batch on a CPU


class Translator(LineTranslator):
    """Models with one vocabulary on a device, with the settings of their search; several are an ensemble."""

    engine = "torch"

    def __init__(
        self,
        model: Transformer | Sequence[Transformer],
        vocabulary: Vocabulary,
        decoding: DecodingParams,
        device: torch.device,
        space: str = " ",
    ) -> None:
        """`space` is what the target language puts between two sentences."""
        models = [model] if isinstance(model, Transformer) else model
        self.models = [one.to(device).eval() for one in models]
        self.model = self.models[0]
        self.device = device
        self.precision = select_search_precision(decoding.precision, device)
        self.decoder = self.model if len(self.models) == 1 else Ensemble(self.models)
        super().__init__(vocabulary, decoding, self.decoder.params.max_positions, space)

    @cached_property
    def network(self) -> SteppingNetwork:
        """The models with their weights packed for searching."""
        return SteppingNetwork.of(self.decoder)

    @classmethod
    def load(
        cls, folder: Path | Sequence[Path], device: str = "auto", decoding: DecodingParams | None = None
    ) -> Self:
        """The translator of a model folder, or of several, whose probabilities are averaged.

        `decoding` replaces the settings in the (first) folder's decoding.json.

        Raises:
            DataError: a folder is missing, incomplete or malformed, or they have different vocabularies.
            ParamsError: this machine has no such device.
        """
        folders = [folder] if isinstance(folder, Path) else list(folder)
        chosen = select_device(device)
        loaded = [load_model(one, chosen) for one in folders]
        first = loaded[0]
        for where, other in zip(folders, loaded, strict=True):
            if other.vocabulary.model != first.vocabulary.model:
                raise DataError(
                    f"{where} has another vocabulary than {folders[0]}: an ensemble needs models that share one, "
                    "trained on the same data/tokens with other seeds, say"
                )
        models, settings = [one.model for one in loaded], decoding or read_decoding(folders[0])
        space = "" if is_unsegmented(first.languages.target) else " "
        return cls(models, first.vocabulary, settings, chosen, space)

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        """On a CPU of few sentences: their numbers stay in its caches, and there are batches for all threads.

        The number of threads has no say, so that it can't change a digit.
        """
        on_cpu = self.device.type == "cpu"
        most = min(CPU_SENTENCES, max(8, -(-len(lengths) // 4))) if on_cpu else len(lengths)
        return list(batches_by_length(lengths, self.decoding.batch_tokens, most))

    def _each(self, translated: Translated, batches: list[list[int]]) -> Iterator[list[list[Translation]]]:
        return side_by_side(translated, batches, self.device)

    def _translated(self, sentences: list[SourceSentence], nbest: int, options: Options) -> list[list[Translation]]:
        params, longest = self.decoding, max(len(sentence.tokens) for sentence in sentences)
        try:
            with torch.inference_mode(), autocast(self.device, self.precision):
                found = self._found(sentences, nbest, options)
                details = self._details(sentences, found) if options.details else []
        except torch.OutOfMemoryError:
            raise DeviceMemoryError(
                f"{len(sentences)} sentences of up to {longest} tokens with beam {params.beam} do not fit "
                f"the memory of {self.device}: lower decoding.batch_tokens = {params.batch_tokens} or the beam"
            ) from None
        source, beginnings = self._batch(sentences)
        limits = longest_lengths(source, params, self.max_positions, beginnings).tolist()
        detail = iter(details)
        return [
            [
                self._translation(sentence, text, hypothesis, options, limit, next(detail, None))
                for text, hypothesis in hypotheses
            ]
            for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True)
        ]

    def _found(
        self, sentences: list[SourceSentence], nbest: int, options: Options
    ) -> list[list[tuple[str, Hypothesis]]]:
        """Texts and hypotheses of each sentence, best first."""
        source, beginnings = self._batch(sentences)
        if options.sampling:
            streams = [(sentence.line, sentence.part) for sentence in sentences]
            found = sample(self.decoder, source, self.decoding, options.sampling, streams, nbest, beginnings)
        else:
            wanted = 1 if nbest == 1 else self.decoding.beam  # equal texts will be left out
            found = beam_search(self.network, source, self.decoding, wanted, beginnings)
        return [
            distinct(self._acceptable(sentence, hypotheses, nbest, options), nbest)
            for sentence, hypotheses in zip(sentences, found, strict=True)
        ]

    def _acceptable(
        self, sentence: SourceSentence, hypotheses: list[Hypothesis], nbest: int, options: Options
    ) -> list[tuple[str, Hypothesis]]:
        """The hypotheses with their texts; those that lose what they must keep, replaced by others."""
        begin = clean_text(sentence.beginning)
        found = [(text, one) for one in hypotheses if (text := self._text(one)).startswith(begin)]
        if not found and begin:
            raise DataError(self._no_room(sentence.line, begin))
        if not found:
            raise DataError(f"line {sentence.line}: the model's scores are no numbers: train it again")
        kept = [(text, one) for text, one in found if not not_kept(sentence.text, text, options.protect)]
        if all(one in kept for one in distinct(found, nbest)):
            return kept
        source, _ = self._batch([sentence])
        wanted = Wanted(self.spelling, sentence.text, options.protect)
        more = protected_search(self.decoder, source, self.decoding, wanted, self.spelling, sentence.beginning)
        kept += [(self._text(one), one) for one in more]
        kept = [(text, one) for text, one in kept if not not_kept(sentence.text, text, options.protect)]
        if not kept:
            which = ", ".join(not_kept(sentence.text, found[0][0], options.protect))
            log.warning("line %d: the translation does not hold %s as the line does", sentence.line, which)
        return kept or found

    def _details(self, sentences: list[SourceSentence], found: list[list[tuple[str, Hypothesis]]]) -> list[Details]:
        """The details of all hypotheses, sentence by sentence."""
        of_each = zip(sentences, found, strict=True)
        pairs = [(sentence.tokens, one.tokens) for sentence, hypotheses in of_each for _, one in hypotheses]
        details, pieces = list[Details](), self.vocabulary.pieces
        for start in range(0, len(pairs), len(sentences)):
            some = pairs[start : start + len(sentences)]
            scored = score_tokens(self.models, [source for source, _ in some], [target for _, target in some])
            details += [
                Details(pieces(source), pieces([*target, EOS]), scores.log_probs, scores.alignment)
                for (source, target), scores in zip(some, scored, strict=True)
            ]
        return details

    def _batch(self, sentences: list[SourceSentence]) -> tuple[Tensor, Beginnings | None]:
        longest = max(len(sentence.tokens) for sentence in sentences)
        padded = [sentence.tokens + [PAD] * (longest - len(sentence.tokens)) for sentence in sentences]
        texts = [sentence.beginning for sentence in sentences]
        beginnings = Beginnings(self.spelling, texts) if any(texts) else None
        return torch.tensor(padded).to(self.device), beginnings
