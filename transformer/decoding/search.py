"""Beam search with the paper's settings (section 6.1) and GNMT's length penalty, vectorised over the batch.

|Y|, the length of a hypothesis, counts its end-of-sentence token, and so does the length of a source.
"""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.decoding.ensemble import Ensemble
from transformer.decoding.greedy import steps_between_waits
from transformer.decoding.hypothesis import NEVER_EMITTED, Hypothesis, length_penalty
from transformer.decoding.packed_product import counted
from transformer.decoding.prefix import Beginnings
from transformer.decoding.stepping import SteppingNetwork, Steps, refilled
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams
from transformer.tokens.vocabulary import BOS, EOS, PAD

ROWS_AT_ONCE = 64  # hypotheses whose probabilities a CPU computes at a time


@dataclass(frozen=True)
class Beams:
    """The search over N sentences with K open and K finished places each; T is the longest possible length.

    A place with probability or score -inf is empty. A sentence without open hypotheses is done.
    """

    sentences: Tensor  # (N,) index in the batch
    longest: Tensor  # (N,) greatest allowed |Y|
    tokens: Tensor  # (N, K, T) open hypotheses, PAD beyond their end
    log_probs: Tensor  # (N, K) log P of the open hypotheses, float32
    finished: Tensor  # (N, K, T) finished hypotheses, best first, EOS included
    scores: Tensor  # (N, K) their log P / lp, descending

    def keep(self, rows: Tensor | slice) -> "Beams":
        """Only the sentences at `rows` (N',), in their order."""
        return Beams(**{name: tensor[rows] for name, tensor in vars(self).items()})


@dataclass(frozen=True)
class Allowed:
    """What may be token number `length` of a hypothesis."""

    length: int
    some_must_end: bool  # known without asking the device
    beginnings: Beginnings | None

    def hide_others(self, log_probs: Tensor, beams: Beams, places: int) -> None:
        """Set to -inf, in `log_probs` (N * places, V), what may not come after these hypotheses."""
        for token in NEVER_EMITTED:
            log_probs[:, token] = -torch.inf
        if self.some_must_end:
            ending = log_probs[:, EOS].clone()
            must_end = (beams.longest <= self.length).repeat_interleave(places)
            log_probs.masked_fill_(must_end[:, None], -torch.inf)
            log_probs[:, EOS] = ending
        if self.beginnings is not None:
            tokens, is_open = beams.tokens[:, :places, : self.length - 1], beams.log_probs[:, :places] > -torch.inf
            self.beginnings.hide_others(log_probs, beams.sentences, tokens, is_open)


@torch.inference_mode()
def beam_search(
    model: Transformer | Ensemble | SteppingNetwork,
    source: Tensor,
    params: DecodingParams,
    nbest: int = 1,
    beginnings: Beginnings | None = None,
) -> list[list[Hypothesis]]:
    """The `nbest` (at most `params.beam`) best translations of each sentence, best first.

    `source` is (B, S) int64, each row ending with EOS and then PAD. In each step a sentence's open hypotheses
    are extended by one token; those among the best K that end are finished. A sentence is done when K
    hypotheses are finished, when `nbest` finished ones can no longer be beaten by an open one, or at its
    maximum length, where the end of sentence is forced. A sentence whose beginning can't be written within that
    length has no translation. The caller chooses eval mode and autocast.
    """
    network = SteppingNetwork.of(model) if isinstance(model, Transformer | Ensemble) else model
    beams = _start(source, params, longest_lengths(source, params, network.params.max_positions, beginnings))
    steps = network.start(source)
    done_tokens, done_scores = torch.zeros_like(beams.finished), torch.full_like(beams.scores, -torch.inf)
    drop_every = steps_between_waits(source.device)
    shortest, total = int(beams.longest.min()), beams.tokens.shape[2]
    last_tokens = torch.full((len(source), 1), BOS, device=source.device)  # all hypotheses of a sentence begin alike
    for length in range(1, total + 1):
        steps.advance(last_tokens)
        allowed = Allowed(length, length >= shortest, beginnings)
        best = _best_extensions(beams, steps, last_tokens.shape[1], allowed)
        parents, beams = _extend(beams, best, length, params)
        beams = _stop(beams, length, params, nbest)
        steps.follow(parents)
        if length % drop_every == 0 or length == total:
            is_open = beams.log_probs[:, 0] > -torch.inf
            done = beams.keep((~is_open).nonzero().flatten())
            done_tokens[done.sentences], done_scores[done.sentences] = done.finished, done.scores
            if len(done.sentences) == len(is_open):
                break
            if (kept := _worth_keeping(is_open, params.beam)) is not None:
                steps.keep(kept)
                beams = beams.keep(kept)
        last_tokens = beams.tokens[:, :, length - 1]
    return _hypotheses(done_tokens[:, :nbest], done_scores[:, :nbest])


def _worth_keeping(is_open: Tensor, places: int) -> Tensor | None:
    """The sentences to go on with where some are done, all that are open among them; None where none need leave.

    Products are computed for a few counts of rows only, so that sentences leave when the next smaller one will do.
    """
    rows = counted(int(is_open.sum()) * places)
    going = min(len(is_open), rows // places)
    if going == len(is_open):
        return None
    kept = is_open.clone()
    kept[(~is_open).nonzero().flatten()[: going - int(is_open.sum())]] = True
    return refilled(kept)


def longest_lengths(
    source: Tensor, params: DecodingParams, max_positions: int, beginnings: Beginnings | None = None
) -> Tensor:
    """The greatest allowed |Y| (B,): that of the source, or of a longer beginning, and `max_extra_length` more."""
    lengths = (source != PAD).sum(1)
    if beginnings is not None:
        lengths = lengths.maximum(torch.tensor(beginnings.lengths, device=source.device))
    return (lengths + params.max_extra_length).clamp(max=max_positions)


def _start(source: Tensor, params: DecodingParams, longest: Tensor) -> Beams:
    """One open hypothesis a sentence: nothing, with probability 1."""
    count, places, device = len(source), params.beam, source.device
    tokens = torch.full((count, places, int(longest.max())), PAD, device=device)
    scores = torch.full((count, places), -torch.inf, device=device)
    log_probs = scores.clone()
    log_probs[:, 0] = 0.0
    return Beams(torch.arange(count, device=device), longest, tokens, log_probs, tokens.clone(), scores)


def _extend(
    beams: Beams, best: tuple[Tensor, Tensor, Tensor], length: int, params: DecodingParams
) -> tuple[Tensor, Beams]:
    """Append token number `length` to every open hypothesis; `best` are the best 2 K extensions of each sentence.

    Returns the places (N, K) of the hypotheses that the new open ones continue, and the new beams.
    Of the best 2 K extensions at most K end, so K that go on are always among them.
    """
    places = beams.log_probs.shape[1]
    log_probs, words, parents = best
    ends = words == EOS
    new_scores = (log_probs / length_penalty(float(length), params.alpha)).where(ends, -torch.inf)[:, :places]
    continued, order = log_probs.masked_fill(ends, -torch.inf).topk(places, dim=1)

    tokens = beams.tokens.gather(1, _over_time(parents, beams.tokens))
    tokens[:, :, length - 1] = words
    scores, best_finished = torch.cat([beams.scores, new_scores], 1).topk(places, dim=1)
    finished = torch.cat([beams.finished, tokens[:, :places]], 1)
    new = replace(
        beams,
        tokens=tokens.gather(1, _over_time(order, tokens)),
        log_probs=continued,
        finished=finished.gather(1, _over_time(best_finished, finished)),
        scores=scores,
    )
    return parents.gather(1, order), new


def _best_extensions(beams: Beams, steps: Steps, places: int, allowed: Allowed) -> tuple[Tensor, Tensor, Tensor]:
    """The best 2 K one-token extensions of each sentence: log P, token and parent place, each (N, 2 K), sorted.

    `places` hypotheses of a sentence have been computed. On a CPU a few sentences at a time, so that the
    probabilities of the whole vocabulary stay in its cache.
    """
    count, wanted = len(beams.sentences), 2 * beams.log_probs.shape[1]
    at_once = (
        max(1, ROWS_AT_ONCE // places) if beams.scores.device.type == "cpu" and not allowed.beginnings else count
    )
    found = []
    for first in range(0, count, at_once):
        some = slice(first, first + at_once)
        log_probs = steps.log_probs(some)
        allowed.hide_others(log_probs, beams.keep(some), places)
        found.append(log_probs.topk(min(wanted, log_probs.shape[1]), dim=1))
    best, words = (torch.cat(each).view(count, places, -1) for each in zip(*found, strict=True))
    candidates = (beams.log_probs[:, :places, None] + best).flatten(1)
    if (missing := wanted - candidates.shape[1]) > 0:  # the first token, of a vocabulary smaller than that
        candidates, words = F.pad(candidates, (0, missing), value=-torch.inf), F.pad(words.flatten(1), (0, missing))
    log_probs, flat = candidates.topk(wanted, dim=1)
    parents = (flat // best.shape[2]).clamp(max=places - 1)
    return log_probs, words.flatten(1).gather(1, flat), parents


def _stop(beams: Beams, length: int, params: DecodingParams, nbest: int) -> Beams:
    """Close the open hypotheses of sentences that need no further search.

    log P only falls and alpha >= 0, so an open hypothesis never scores above log P / lp(longest).
    """
    bound = beams.log_probs[:, 0] / length_penalty(beams.longest, params.alpha)
    full = beams.scores[:, -1] > -torch.inf
    settled = beams.scores[:, nbest - 1] >= bound
    stopped = full | settled | (beams.longest <= length)
    return replace(beams, log_probs=beams.log_probs.masked_fill(stopped[:, None], -torch.inf))


def _over_time(places: Tensor, tokens: Tensor) -> Tensor:
    """Indices (N, P) repeated for each time step of `tokens` (N, *, T), as `gather` wants them."""
    return places[:, :, None].expand(-1, -1, tokens.shape[2])


def _hypotheses(tokens: Tensor, scores: Tensor) -> list[list[Hypothesis]]:
    """Lists of (B, n, T) tokens and (B, n) scores, empty places left out."""
    return [
        [Hypothesis(row[: row.index(EOS)], score) for row, score in zip(*places, strict=True) if score > -torch.inf]
        for places in zip(tokens.tolist(), scores.tolist(), strict=True)
    ]
