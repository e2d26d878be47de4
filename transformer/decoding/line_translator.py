"""Lines in, lines out, whatever searches: cleaning, segmentation, batching by length, and the order restored."""

import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

from transformer.data.cleaning import clean_text
from transformer.data.placeholders import not_kept
from transformer.decoding.hypothesis import Hypothesis, length_penalty
from transformer.decoding.long_lines import split_long
from transformer.decoding.translation import NOTHING, Details, Options, Sentence, Translation, joined
from transformer.errors import DataError
from transformer.params import DecodingParams
from transformer.progress import ignore_progress
from transformer.section import shown
from transformer.tokens.vocabulary import EOS, Vocabulary

if TYPE_CHECKING:
    from transformer.decoding.spelling import Spelling

log = logging.getLogger(__name__)
PLAIN = Options()
Engine = Literal["torch", "ctranslate2"]
Translated = Callable[[list[int]], list[list[Translation]]]  # the sentences of a batch, by their indices


@dataclass(frozen=True)
class SourceSentence:
    """What is translated at once: a line, or a sentence of a line that was split."""

    line: int  # its number in the input
    part: int  # of the line, from 0
    text: str
    tokens: list[int]  # with EOS
    beginning: str
    cut: bool


class LineTranslator(ABC):
    """Translates lines with the search of an engine, `_translated`."""

    engine: ClassVar[Engine]

    def __init__(
        self, vocabulary: Vocabulary, decoding: DecodingParams, max_positions: int, space: str = " "
    ) -> None:
        """`max_positions` is of a sentence, EOS included; `space` stands between two of the target language."""
        self.vocabulary = vocabulary
        self.decoding = decoding
        self.max_positions = max_positions
        self.space = space

    @cached_property
    def spelling(self) -> "Spelling":
        """What the pieces spell; a plain search does without it, so it is worked out when it is asked for."""
        from transformer.decoding.spelling import Spelling  # here, as it needs torch

        return Spelling(self.vocabulary)

    def check(self, options: Options, prefixes: Sequence[str] = ()) -> None:  # noqa: B027  # torch has all
        """ParamsError where the engine lacks what is asked for."""

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
            ParamsError: the engine lacks what the options ask for.
            DataError: a prefix can't be the beginning, or the model's scores are no numbers.
            DeviceMemoryError: a batch does not fit the device's memory.
        """
        self.check(options, prefixes)
        sentences = self._sentences(lines, list(prefixes) or [""] * len(lines), options, first_line)
        parts = defaultdict[int, dict[int, list[Translation]]](dict)
        on_translated(len(lines) - len({sentence.line for sentence in sentences}))
        batches = self._batches([len(sentence.tokens) for sentence in sentences])

        def translated(batch: list[int]) -> list[list[Translation]]:
            return self._translated([sentences[index] for index in batch], nbest, options)

        for batch, found in zip(batches, self._each(translated, batches), strict=True):
            for index, translations in zip(batch, found, strict=True):
                parts[sentences[index].line][index] = translations
            on_translated(sum(sentences[index].part == 0 for index in batch))
        return [
            self._of_line([(sentences[index], found) for index, found in sorted(parts[number].items())])
            for number in range(first_line, first_line + len(lines))
        ]

    def _of_line(self, parts: list[tuple[SourceSentence, list[Translation]]]) -> list[Translation]:
        if len(parts) < 2:
            return parts[0][1] if parts else [NOTHING]
        sentences = [Sentence(sentence.text, found[0]) for sentence, found in parts]
        return [joined(sentences, self.space, self.decoding.alpha)]

    def _sentences(
        self, lines: list[str], prefixes: list[str], options: Options, first_line: int
    ) -> list[SourceSentence]:
        """What is to be translated: each line that is not empty, or its sentences."""
        limit = self.max_positions - 1
        texts = [clean_text(line) for line in lines]
        found, cut = list[SourceSentence](), list[str]()
        encoded = zip(texts, self.vocabulary.encode_batch(texts), prefixes, strict=True)
        for number, (text, ids, prefix) in enumerate(encoded, first_line):
            if ids and prefix and self._pieces_of(prefix) > limit:
                raise DataError(self._no_room(number, prefix))
            parts = [(text, ids)]
            if len(ids) > limit and options.long_lines == "split":
                split = split_long(text, lambda part: len(self.vocabulary.encode(part)) <= limit)
                parts = [(part, self.vocabulary.encode(part)) for part in split]
            elif len(ids) > limit:
                cut.append(str(number))
            found += [
                SourceSentence(number, part, one, [*tokens[:limit], EOS], "" if part else prefix, len(tokens) > limit)
                for part, (one, tokens) in enumerate(parts)
                if tokens
            ]
        if cut:
            where = f"line {cut[0]} is" if len(cut) == 1 else f"lines {', '.join(cut)} are"
            log.warning("%s longer than the model's %d tokens: only the beginning is translated", where, limit)
        return found

    def _pieces_of(self, prefix: str) -> int:
        from transformer.decoding.prefix import as_spelled  # here, as it needs torch

        return len(self.spelling.pieces(as_spelled(prefix)))

    def _batches(self, lengths: list[int]) -> list[list[int]]:
        """Which sentences, of these lengths, are translated at once."""
        return list(batches_by_length(lengths, self.decoding.batch_tokens))

    def _each(self, translated: Translated, batches: list[list[int]]) -> Iterator[list[list[Translation]]]:
        """What `translated` makes of each batch, in order."""
        return map(translated, batches)

    @abstractmethod
    def _translated(self, sentences: list[SourceSentence], nbest: int, options: Options) -> list[list[Translation]]:
        """Up to `nbest` translations of each sentence of a batch, best first."""

    def _no_room(self, line: int, prefix: str) -> str:
        most = self.max_positions
        return f"line {line}: no translation of at most {most} tokens begins with {shown(clean_text(prefix))}"

    def _text(self, hypothesis: Hypothesis) -> str:
        # Byte pieces can spell a line break, which would tear one translation into two lines.
        return " ".join(self.vocabulary.decode(hypothesis.tokens).split())

    def _translation(
        self,
        sentence: SourceSentence,
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
