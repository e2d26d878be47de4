"""Text in, text out: cleaning, segmentation, batching by length, search, and the order restored."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from transformer.data.cleaning import clean_text
from transformer.data.placeholders import not_kept
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.long_lines import split_long
from transformer.decoding.prefix import Beginnings, as_spelled
from transformer.decoding.protection import Wanted, protected_search
from transformer.decoding.sampling import sample
from transformer.decoding.scoring import score_tokens
from transformer.decoding.search import Hypothesis, beam_search, length_penalty, longest_lengths
from transformer.decoding.side_by_side import side_by_side
from transformer.decoding.spelling import Spelling
from transformer.decoding.stepping import SteppingNetwork
from transformer.decoding.translation import NOTHING, Details, Options, Sentence, Translation, distinct, joined
from transformer.errors import DataError, DeviceMemoryError
from transformer.languages import is_unsegmented
from transformer.model.device import autocast, select_device, select_search_precision
from transformer.model.folder import load_model, read_decoding
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams
from transformer.progress import ignore_progress
from transformer.section import shown
from transformer.tokens.vocabulary import EOS, PAD, Vocabulary

log = logging.getLogger(__name__)
PLAIN = Options()
CPU_SENTENCES = 64  # of a batch on a CPU


@dataclass(frozen=True)
class _Sentence:
    """What is translated at once: a line, or a sentence of a line that was split."""

    line: int  # its number in the input
    part: int  # of the line, from 0
    text: str
    tokens: list[int]  # with EOS
    beginning: str
    cut: bool


class Translator:
    """Models with one vocabulary on a device, with the settings of their search; several are an ensemble."""

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
        self.vocabulary = vocabulary
        self.decoding = decoding
        self.device = device
        self.precision = select_search_precision(decoding.precision, device)
        self.space = space
        self.decoder = self.model if len(self.models) == 1 else Ensemble(self.models)

    @cached_property
    def network(self) -> SteppingNetwork:
        """The models with their weights packed for searching."""
        return SteppingNetwork.of(self.decoder)

    @cached_property
    def spelling(self) -> Spelling:
        """What the pieces spell; a plain search does without it, so it is worked out when it is asked for."""
        return Spelling(self.vocabulary)

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

    def translate(self, lines: list[str], *, options: Options = PLAIN, prefixes: Sequence[str] = ()) -> list[str]:
        """The best translation of each line; empty lines stay empty. See `translate_nbest`."""
        found = self.translate_nbest(lines, options=options, prefixes=prefixes)
        return [translations[0].text for translations in found]

    def translate_nbest(
        self,
        lines: list[str],
        nbest: int = 1,
        *,
        options: Options = PLAIN,
        prefixes: Sequence[str] = (),
        first_line: int = 1,
        on_translated: Callable[[int], None] = ignore_progress,
    ) -> list[list[Translation]]:
        """Up to `nbest` (at most the beam, unless drawn) translations of each line, best first, no two alike.

        An empty line has one empty translation, a line that was split its sentences' best ones as one. Lines longer
        than the model's positions are cut, with one warning that names them, or split. `prefixes` holds for each line
        the characters that its translation must begin with, if any. `first_line` is the number of `lines[0]` in
        messages, and chooses the random numbers of its samples. `on_translated` is called with the number of lines
        of each batch.

        Raises:
            DataError: a prefix can't be the beginning, or the model's scores are no numbers.
            DeviceMemoryError: a batch does not fit the device's memory.
        """
        sentences = self._sentences(lines, list(prefixes) or [""] * len(lines), options, first_line)
        parts = defaultdict[int, dict[int, list[Translation]]](dict)
        on_translated(len(lines) - len({sentence.line for sentence in sentences}))
        batches = self._batches(sentences)

        def translated(batch: list[int]) -> list[list[Translation]]:
            return self._translated([sentences[index] for index in batch], nbest, options)

        for batch, found in zip(batches, side_by_side(translated, batches, self.device), strict=True):
            for index, translations in zip(batch, found, strict=True):
                parts[sentences[index].line][index] = translations
            on_translated(sum(sentences[index].part == 0 for index in batch))
        return [
            self._of_line([(sentences[index], found) for index, found in sorted(parts[number].items())])
            for number in range(first_line, first_line + len(lines))
        ]

    def _batches(self, sentences: list[_Sentence]) -> list[list[int]]:
        """On a CPU of few sentences: their numbers stay in its caches, and there are batches for all threads.

        The number of threads has no say, so that it can't change a digit.
        """
        on_cpu = self.device.type == "cpu"
        most = min(CPU_SENTENCES, max(8, -(-len(sentences) // 4))) if on_cpu else len(sentences)
        lengths = [len(sentence.tokens) for sentence in sentences]
        return list(batches_by_length(lengths, self.decoding.batch_tokens, most))

    def _of_line(self, parts: list[tuple[_Sentence, list[Translation]]]) -> list[Translation]:
        if len(parts) < 2:
            return parts[0][1] if parts else [NOTHING]
        sentences = [Sentence(sentence.text, found[0]) for sentence, found in parts]
        return [joined(sentences, self.space, self.decoding.alpha)]

    def _sentences(self, lines: list[str], prefixes: list[str], options: Options, first_line: int) -> list[_Sentence]:
        """What is to be translated: each line that is not empty, or its sentences."""
        limit = self.decoder.params.max_positions - 1
        texts = [clean_text(line) for line in lines]
        found, cut = list[_Sentence](), list[str]()
        encoded = zip(texts, self.vocabulary.encode_batch(texts), prefixes, strict=True)
        for number, (text, ids, prefix) in enumerate(encoded, first_line):
            if ids and prefix and len(self.spelling.pieces(as_spelled(prefix))) > limit:
                raise DataError(self._no_room(number, prefix))
            parts = [(text, ids)]
            if len(ids) > limit and options.long_lines == "split":
                split = split_long(text, lambda part: len(self.vocabulary.encode(part)) <= limit)
                parts = [(part, self.vocabulary.encode(part)) for part in split]
            elif len(ids) > limit:
                cut.append(str(number))
            found += [
                _Sentence(number, part, one, [*tokens[:limit], EOS], "" if part else prefix, len(tokens) > limit)
                for part, (one, tokens) in enumerate(parts)
                if tokens
            ]
        if cut:
            where = f"line {cut[0]} is" if len(cut) == 1 else f"lines {', '.join(cut)} are"
            log.warning("%s longer than the model's %d tokens: only the beginning is translated", where, limit)
        return found

    def _translated(self, sentences: list[_Sentence], nbest: int, options: Options) -> list[list[Translation]]:
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
        limits = longest_lengths(source, params, self.decoder.params.max_positions, beginnings).tolist()
        detail = iter(details)
        return [
            [
                self._translation(sentence, text, hypothesis, options, limit, next(detail, None))
                for text, hypothesis in hypotheses
            ]
            for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True)
        ]

    def _found(self, sentences: list[_Sentence], nbest: int, options: Options) -> list[list[tuple[str, Hypothesis]]]:
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
        self, sentence: _Sentence, hypotheses: list[Hypothesis], nbest: int, options: Options
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

    def _no_room(self, line: int, prefix: str) -> str:
        most = self.decoder.params.max_positions
        return f"line {line}: no translation of at most {most} tokens begins with {shown(clean_text(prefix))}"

    def _details(self, sentences: list[_Sentence], found: list[list[tuple[str, Hypothesis]]]) -> list[Details]:
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

    def _batch(self, sentences: list[_Sentence]) -> tuple[Tensor, Beginnings | None]:
        longest = max(len(sentence.tokens) for sentence in sentences)
        padded = [sentence.tokens + [PAD] * (longest - len(sentence.tokens)) for sentence in sentences]
        texts = [sentence.beginning for sentence in sentences]
        beginnings = Beginnings(self.spelling, texts) if any(texts) else None
        return torch.tensor(padded).to(self.device), beginnings

    def _text(self, hypothesis: Hypothesis) -> str:
        # Byte pieces can spell a line break, which would tear one translation into two lines.
        return " ".join(self.vocabulary.decode(hypothesis.tokens).split())

    def _translation(
        self,
        sentence: _Sentence,
        text: str,
        hypothesis: Hypothesis,
        options: Options,
        longest: int,
        details: Details | None,
    ) -> Translation:
        length = len(hypothesis.tokens) + 1
        return Translation(
            text,
            hypothesis.score,
            hypothesis.score * float(length_penalty(float(length), self.decoding.alpha)),
            length,
            cut=sentence.cut or length >= longest,
            not_kept=tuple(not_kept(sentence.text, text, options.protect)),
            details=details,
        )


def batches_by_length(lengths: list[int], batch_tokens: int, most: int | None = None) -> Iterator[list[int]]:
    """Indices of the non-empty sentences, longest first, in batches of at most `batch_tokens` padded tokens.

    `most` limits their number too. A sentence longer than that is a batch of its own.
    """
    batch: list[int] = []
    for index in sorted((i for i, length in enumerate(lengths) if length), key=lambda i: -lengths[i]):
        if batch and ((len(batch) + 1) * lengths[batch[0]] > batch_tokens or len(batch) == most):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
