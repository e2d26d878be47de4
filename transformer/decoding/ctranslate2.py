"""CTranslate2 as an engine: its beam search, with our limits of length and our order of the hypotheses.

Its search extends and finishes the same hypotheses as ours, until as many are finished as the beam is wide. What is
ours is put around it: log P is divided by ((5 + |Y|) / 6) ** alpha; a hypothesis that reaches the greatest length,
which follows from its source, ends there with the probability of the end of sentence.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from transformer.decoding.hypothesis import NEVER_EMITTED, Hypothesis, length_penalty
from transformer.decoding.line_translator import LineTranslator, SourceSentence
from transformer.decoding.translation import Options, Translation, distinct
from transformer.errors import DataError, DeviceMemoryError, ParamsError
from transformer.export.origin import check_export, exported_folder, not_installed
from transformer.languages import is_unsegmented
from transformer.params import DecodingParams, read_decoding
from transformer.tokens.vocabulary import EOS, VOCABULARY_FILE, Vocabulary

if TYPE_CHECKING:
    import ctranslate2

NO_PENALTY = 1e-6  # as exponent of the engine's length penalty; with 0 its search stops at the first good hypothesis


class CTranslate2Translator(LineTranslator):
    """Translates lines as our own search does, but for rounding; it forces, protects and draws nothing."""

    engine = "ctranslate2"

    def __init__(
        self,
        engine: "ctranslate2.Translator",
        vocabulary: Vocabulary,
        decoding: DecodingParams,
        max_positions: int,
        space: str = " ",
    ) -> None:
        """`engine` has an export with this vocabulary; see LineTranslator."""
        super().__init__(vocabulary, decoding, max_positions, space)
        self._engine = engine
        self._pieces = vocabulary.pieces(list(range(vocabulary.size)))
        self._ids = {piece: id_ for id_, piece in enumerate(self._pieces)}

    @classmethod
    def load(cls, folder: Path, device: str = "auto", decoding: DecodingParams | None = None) -> Self:
        """The translator of an export, or of the one beside a model folder.

        Raises:
            DataError: there is no export, or it is damaged, or of another model than the one it stands beside.
            ParamsError: CTranslate2 is not installed, or this machine has no such device.
        """
        exported = exported_folder(folder, "ctranslate2")
        origin = check_export(exported)
        try:
            import ctranslate2
        except ModuleNotFoundError:
            raise not_installed("ctranslate2", "ctranslate2") from None
        if device == "mps" or (device == "cuda" and not ctranslate2.get_cuda_device_count()):
            raise ParamsError(f"device {device!r} is not available to CTranslate2 here; use auto or cpu")
        try:
            engine = ctranslate2.Translator(str(exported), device)
        except (RuntimeError, ValueError) as error:
            raise DataError(f"CTranslate2 can't load {exported}: {' '.join(str(error).split())}") from None
        settings = decoding or read_decoding(exported)
        space = "" if is_unsegmented(origin.languages.target) else " "
        return cls(engine, Vocabulary.load(exported / VOCABULARY_FILE), settings, origin.max_positions, space)

    def check(self, options: Options, prefixes: Sequence[str] = ()) -> None:
        """ParamsError where something is asked for that only our own search has."""
        asked = {
            "forced beginnings (--prefix)": any(prefixes),
            "protected text (--protect)": bool(options.protect),
            "samples (--sample)": options.sampling is not None,
            "tokens and alignment (--json)": options.details,
        }
        if missing := [what for what, wanted in asked.items() if wanted]:
            raise ParamsError(f"the engine ctranslate2 has no {missing[0]}: take the engine torch")

    def _translated(self, sentences: list[SourceSentence], nbest: int, options: Options) -> list[list[Translation]]:
        limits = [self._longest(sentence) for sentence in sentences]
        try:
            found = self._searched(sentences, limits, nbest)
        except RuntimeError as error:
            if "out of memory" not in str(error):
                raise
            raise DeviceMemoryError(
                f"{len(sentences)} sentences with beam {self.decoding.beam} do not fit the memory of the device: "
                f"lower decoding.batch_tokens = {self.decoding.batch_tokens} or the beam"
            ) from None
        return [
            [
                self._translation(sentence, text, one, options, limit, None)
                for text, one in distinct(((self._text(one), one) for one in hypotheses), nbest)
            ]
            for sentence, limit, hypotheses in zip(sentences, limits, found, strict=True)
        ]

    def _searched(self, sentences: list[SourceSentence], limits: list[int], nbest: int) -> list[list[Hypothesis]]:
        """The finished hypotheses of each sentence, of at most as many tokens as its limit."""
        mean = sum(len(sentence.tokens) for sentence in sentences) / len(sentences)
        # As like ours as a power can be: ours grows by alpha |Y| / (5 + |Y|) % where |Y| grows by 1 %.
        exponent = self.decoding.alpha * mean / (5 + mean)
        found = self._found(sentences, max(limits), exponent)
        for index, (sentence, limit) in enumerate(zip(sentences, limits, strict=True)):
            if any(len(one.tokens) + 1 > limit for one in found[index]):
                found[index] = self._found([sentence], limit, exponent)[0]
            if any(token in NEVER_EMITTED for one in found[index] for token in one.tokens):
                # Only then: what is suppressed has no part in the engine's sum of probabilities, but in ours.
                found[index] = self._found([sentence], limit, exponent, NEVER_EMITTED)[0]
        lacking = [index for index, some in enumerate(found) if self._may_lack_a_better(some, exponent, nbest)]
        if lacking:
            again = self._found([sentences[index] for index in lacking], max(limits), NO_PENALTY)
            for index, more in zip(lacking, again, strict=True):
                found[index] = _united(found[index], more, limits[index])
        return found

    def _may_lack_a_better(self, found: list[Hypothesis], exponent: float, nbest: int) -> bool:
        """Whether one of the `nbest` best by our penalty may be missing.

        In its last step a search can finish more hypotheses than the beam is wide, and the engine leaves out those
        that come last by its own penalty, often short ones that were finished before. None of them has a greater
        log P / |Y| ** exponent than the last one that is there; none is thought to be half as long as all that are.
        """
        if len(found) < self.decoding.beam:
            return False
        alpha, lengths = self.decoding.alpha, [len(one.tokens) + 1 for one in found]
        possible = range(max(1, min(lengths) // 2), max(lengths) + 1)
        pairs = zip(found, lengths, strict=True)
        last = min(one.score * float(length_penalty(float(n), alpha)) / n**exponent for one, n in pairs)
        best = max(last * n**exponent / float(length_penalty(float(n), alpha)) for n in possible)
        return bool(best > sorted((one.score for one in found), reverse=True)[nbest - 1])

    def _longest(self, sentence: SourceSentence) -> int:
        """The greatest |Y|, end of sentence included, as of `search.longest_lengths`."""
        return min(len(sentence.tokens) + self.decoding.max_extra_length, self.max_positions)

    def _found(
        self, sentences: list[SourceSentence], longest: int, exponent: float, suppressed: Sequence[int] = ()
    ) -> list[list[Hypothesis]]:
        """The hypotheses that the search finishes with at most `longest` tokens, as many as the beam is wide."""
        sources = [[self._pieces[token] for token in sentence.tokens[:-1]] for sentence in sentences]
        results = self._engine.translate_batch(
            sources,
            beam_size=self.decoding.beam,
            num_hypotheses=self.decoding.beam,
            length_penalty=exponent,
            max_input_length=0,
            min_decoding_length=0,
            max_decoding_length=longest - 1,  # without the end of sentence
            suppress_sequences=[[self._pieces[token]] for token in suppressed],
            return_end_token=True,
            return_scores=True,
        )
        told = not suppressed
        return [self._hypotheses(*pair, exponent, told) for pair in zip(sources, results, strict=True)]

    def _hypotheses(self, source: list[str], result: Any, exponent: float, told: bool) -> list[Hypothesis]:
        """Those of a result, whose score is `told` by the engine, unless the greatest length has ended it."""
        found = []
        for pieces, score in zip(result.hypotheses, result.scores, strict=True):
            ended = pieces[-1:] == [self._pieces[EOS]]
            words = pieces[:-1] if ended else pieces
            log_prob, tokens = score * len(pieces) ** exponent, [self._ids[piece] for piece in words]
            if not (told and ended):
                log_prob = sum(self._engine.score_batch([source], [words], max_input_length=0)[0].log_probs)
            penalty = float(length_penalty(float(len(tokens) + 1), self.decoding.alpha))
            found.append(Hypothesis(tokens, log_prob / penalty))
        return found


def _united(found: list[Hypothesis], more: list[Hypothesis], limit: int) -> list[Hypothesis]:
    """Also those of `more` that our search could find."""
    right = [one for one in more if len(one.tokens) < limit and not set(one.tokens) & set(NEVER_EMITTED)]
    return list({tuple(one.tokens): one for one in [*right, *found]}.values())
