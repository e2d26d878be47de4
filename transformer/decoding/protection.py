"""A search for translations that keep what must be kept: placeholders, tags, URLs, numbers.

Grid beam search (Hokamp and Liu 2017): each step also tries the next piece of what is still missing, and hypotheses
compete only with those that hold as many of the wanted pieces. What is met is judged by the text that the pieces
spell, so that any segmentation counts.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.data.placeholders import protected
from transformer.decoding.ensemble import Ensemble
from transformer.decoding.hypothesis import NEVER_EMITTED, Hypothesis, length_penalty
from transformer.decoding.prefix import Beginnings
from transformer.decoding.search import longest_lengths
from transformer.decoding.spelling import Spelling
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams
from transformer.tokens.vocabulary import BOS, EOS

MOST_ROWS = 128  # hypotheses that go on together; with more to keep, each number of pieces met gets fewer places


@dataclass(frozen=True)
class Progress:
    """How far a text has come: what it lacks, and how many pieces of all that is wanted it holds."""

    missing: tuple[str, ...]
    begun: tuple[str, int] | None  # what the text ends with the first so many bytes of
    pieces: int


@dataclass(frozen=True)
class Open:
    """A hypothesis that goes on: its row in the decoder state, its pieces and what they spell."""

    row: int
    tokens: tuple[int, ...]
    spelled: bytes
    log_prob: float
    progress: Progress


class Wanted:
    """What the translation of a source must hold as often as the source does, and how pieces spell it."""

    def __init__(self, spelling: Spelling, source: str, kinds: Collection[str]) -> None:
        self._spelling, self._kinds = spelling, kinds
        counts = Counter(match[0] for match in protected(source, kinds))
        spelled = {text: _canonical(spelling, text) for text in counts}
        self._pieces_of = {text: pieces for text, pieces in spelled.items() if pieces}  # with the space before it
        self.counts = {text: counts[text] for text in self._pieces_of}
        self.pieces = sum(len(self._pieces_of[text]) * count for text, count in self.counts.items())

    def progress(self, spelled: bytes) -> Progress | None:
        """How far this text has come; None where it holds more than is wanted, as `not_kept` has it.

        What touches the end may still grow into something else, and is not too much yet.
        """
        text = spelled.decode(errors="ignore")
        found, at_end = Counter[str](), ""
        for match in protected(text, self._kinds):
            found[match[0]] += 1
            at_end = match[0] if _may_grow(match, text) else ""
            if not at_end and match.lastgroup != "numbers" and match[0] not in self.counts:
                return None
        if any(found[one] - (one == at_end) > count for one, count in self.counts.items()):
            return None
        missing = tuple(one for one, count in self.counts.items() if found[one] < count)
        met = sum(len(self._pieces_of[one]) * min(found[one], count) for one, count in self.counts.items())
        begun = [(one, size) for one in missing if (size := _begun(spelled, one.encode()))]
        best = max(begun, key=lambda pair: pair[1], default=None)
        return Progress(missing, best, met + (self._pieces_in(*best) if best else 0))

    def proposals(self, progress: Progress) -> set[int]:
        """The pieces that bring a text further."""
        if progress.begun:
            text, size = progress.begun
            pieces, following = self._pieces_of[text], self._pieces_in(text, size)
            aligned = len(self._spelling.text(pieces[:following])) == size + 1
            rest = [pieces[following]] if aligned else self._spelling.pieces(text.encode()[size:])
            return {*rest[:1]}
        begins = {self._pieces_of[text][0] for text in progress.missing}
        within = {piece for text in progress.missing for piece in self._spelling.pieces(text.encode())[:1]}
        return begins | within

    def _pieces_in(self, text: str, size: int) -> int:
        """How many of the pieces of `text` its first `size` bytes hold."""
        pieces = self._pieces_of[text]
        return sum(len(self._spelling.text(pieces[: end + 1])) <= size + 1 for end in range(len(pieces)))


@torch.inference_mode()
def protected_search(
    model: Transformer | Ensemble,
    source: Tensor,
    params: DecodingParams,
    wanted: Wanted,
    spelling: Spelling,
    beginning: str = "",
) -> list[Hypothesis]:
    """Up to `params.beam` translations of one sentence, `source` (1, S), that hold all that is wanted, best first.

    Empty where the model's positions have no room for it.
    """
    beginnings = Beginnings(spelling, [beginning])
    longest = int(longest_lengths(source, params, model.params.max_positions, beginnings))
    places = max(1, min(params.beam, MOST_ROWS // (wanted.pieces + 1)))
    state, last = model.start(source), torch.tensor([BOS], device=source.device)
    nothing = wanted.progress(b"")
    assert nothing is not None
    beam, finished = [Open(0, (), b"", 0.0, nothing)], list[Hypothesis]()
    for length in range(1, longest + 1):
        log_probs = _log_probs(model.step(last, state), beam, beginnings)
        chosen = _best_of_each(_extended(beam, log_probs, wanted, spelling, places + 1, longest - length - 1), places)
        penalty = float(length_penalty(float(length), params.alpha))
        ended = [one for one in chosen if one.tokens[-1] == EOS]
        finished += [Hypothesis(list(one.tokens[:-1]), one.log_prob / penalty) for one in ended]
        beam = [one for one in chosen if one.tokens[-1] != EOS]
        if not beam or (finished and _none_is_ahead(beam, penalty, finished, params.beam)):
            break
        state = state.select(torch.tensor([one.row for one in beam], device=source.device))
        last = torch.tensor([one.tokens[-1] for one in beam], device=source.device)
    return sorted(finished, key=lambda one: -one.score)[: params.beam]


def _none_is_ahead(beam: list[Open], penalty: float, finished: list[Hypothesis], enough: int) -> bool:
    """Whether enough hypotheses have ended, and none that goes on scores better, as it stands, than the best of them.

    What is wanted can be written too early at little cost of time, so the first to end are seldom the best.
    """
    best = max(one.score for one in finished)
    return len(finished) >= enough and all(one.log_prob / penalty < best for one in beam)


def _log_probs(logits: Tensor, beam: list[Open], beginnings: Beginnings) -> Tensor:
    """log P (rows, V) of the next piece, on the CPU; -inf for what must not come."""
    log_probs = logits.float().log_softmax(-1).cpu()
    for token in NEVER_EMITTED:
        log_probs[:, token] = -torch.inf
    rows = torch.tensor([[one.tokens for one in beam]], dtype=torch.int64)
    beginnings.hide_others(log_probs, torch.zeros(1, dtype=torch.int64), rows, torch.ones(1, len(beam)).bool())
    return log_probs


def _extended(
    beam: list[Open], log_probs: Tensor, wanted: Wanted, spelling: Spelling, likeliest: int, left: int
) -> Iterator[Open]:
    """The hypotheses with one piece more: the likeliest ones, and those that bring them further or to their end.

    Only those that leave, of `left` places and one for the end of sentence, enough for all that is missing.
    """
    best = log_probs.topk(min(likeliest, log_probs.shape[1])).indices.tolist()
    for row, one in enumerate(beam):
        for piece in {*best[row], *(wanted.proposals(one.progress) if one.progress.missing else {EOS})}:
            total = one.log_prob + float(log_probs[row, piece])
            ends = piece == EOS
            spelled = one.spelled + (b" " if ends else spelling.bytes[piece])  # no text grows over its end
            progress = wanted.progress(spelled)
            if total == -torch.inf or progress is None or (ends and progress.missing):
                continue
            if wanted.pieces - progress.pieces <= left + ends:
                yield Open(row, (*one.tokens, piece), spelled, total, progress)


def _best_of_each(extended: Iterator[Open], places: int) -> list[Open]:
    """The `places` best hypotheses of each number of pieces met."""
    banks = defaultdict[int, list[Open]](list)
    for one in sorted(extended, key=lambda one: -one.log_prob):
        if len(banks[one.progress.pieces]) < places:
            banks[one.progress.pieces].append(one)
    return [one for bank in banks.values() for one in bank]


def _may_grow(match: re.Match[str], text: str) -> bool:
    """Whether more text can make the match longer: a URL leaves out a dot at its end until something follows."""
    rest = text[match.end() :]
    return not rest or (match.lastgroup == "urls" and not any(map(str.isspace, rest)))


def _begun(spelled: bytes, text: bytes) -> int:
    """How many bytes of `text`, not all, stand at the end of what is spelled, where something can begin."""
    for size in range(min(len(text) - 1, len(spelled)), 0, -1):
        if spelled.endswith(text[:size]) and not (text[:1].isalnum() and spelled[:-size][-1:].isalnum()):
            return size
    return 0


def _canonical(spelling: Spelling, text: str) -> list[int]:
    """The pieces of a text that begins a word: those that the model was trained on, if they spell it."""
    pieces = spelling.vocabulary.encode(text)
    return pieces if spelling.text(pieces) == f" {text}".encode() else spelling.pieces(f" {text}".encode())
