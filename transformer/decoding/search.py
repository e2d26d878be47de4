"""Beam search with the paper's settings (section 6.1) and GNMT's length penalty, vectorised over the batch.

|Y|, the length of a hypothesis, counts its end-of-sentence token, and so does the length of a source.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from transformer.decoding.ensemble import Ensemble
from transformer.decoding.greedy import steps_between_waits
from transformer.decoding.prefix import Beginnings
from transformer.model.transformer import DecoderState, Transformer
from transformer.params import DecodingParams
from transformer.tokens.vocabulary import BOS, EOS, PAD, UNK

NEVER_EMITTED = (PAD, UNK, BOS)


@dataclass(frozen=True)
class Hypothesis:
    """One finished translation: token ids without the end of sentence, and log P(Y|X) / lp(Y)."""

    tokens: list[int]
    score: float


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

    def keep(self, rows: Tensor) -> "Beams":
        """Only the sentences at `rows` (N',)."""
        return Beams(**{name: tensor[rows] for name, tensor in vars(self).items()})


def length_penalty(length: Tensor | float, alpha: float) -> Tensor | float:
    """lp(Y) = ((5 + |Y|) / 6) ** alpha (Wu et al. 2016, equation 14); |Y| counts the end of sentence."""
    return ((5.0 + length) / 6.0) ** alpha


@torch.inference_mode()
def beam_search(
    model: Transformer | Ensemble,
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
    beams = _start(source, params, longest_lengths(source, params, model.params.max_positions, beginnings))
    state = model.start(source, params.beam)
    done_tokens, done_scores = torch.zeros_like(beams.finished), torch.full_like(beams.scores, -torch.inf)
    drop_every = steps_between_waits(source.device)
    shortest, total = int(beams.longest.min()), beams.tokens.shape[2]
    last_tokens = torch.full((len(source), params.beam), BOS, device=source.device)
    for length in range(1, total + 1):
        logits = model.step(last_tokens.flatten(), state).float()
        normaliser = logits.logsumexp(1, keepdim=True)
        logits = _allowed(beams, logits, length, length >= shortest, beginnings)
        parents, beams = _extend(beams, logits, normaliser, length, params)
        beams = _stop(beams, length, params, nbest)
        if length % drop_every == 0 or length == total:
            is_open = beams.log_probs[:, 0] > -torch.inf
            done = beams.keep((~is_open).nonzero().flatten())
            done_tokens[done.sentences], done_scores[done.sentences] = done.finished, done.scores
            going = is_open.nonzero().flatten()
            if not len(going):
                break
            beams, parents = beams.keep(going), parents[going]
        state = _follow(state, parents, params.beam)
        last_tokens = beams.tokens[:, :, length - 1]
    return _hypotheses(done_tokens[:, :nbest], done_scores[:, :nbest])


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
    beams: Beams, logits: Tensor, normaliser: Tensor, length: int, params: DecodingParams
) -> tuple[Tensor, Beams]:
    """Append token number `length` to every open hypothesis.

    `logits` is (N * K, V), those of tokens that are not allowed -inf; log P is `logits` - `normaliser` (N * K, 1).
    Returns the rows (N, K) of the decoder state that the new open hypotheses continue, and the new beams.
    Of the best 2 K extensions at most K end, so K that go on are always among them.
    """
    count, places = beams.log_probs.shape
    log_probs, words, parents = _best_extensions(beams, logits, normaliser)
    ends = words == EOS
    new_scores = (log_probs / length_penalty(float(length), params.alpha)).where(ends, -torch.inf)[:, :places]
    continued, order = log_probs.masked_fill(ends, -torch.inf).topk(places, dim=1)

    tokens = beams.tokens.gather(1, _over_time(parents, beams.tokens))
    tokens[:, :, length - 1] = words
    scores, best = torch.cat([beams.scores, new_scores], 1).topk(places, dim=1)
    finished = torch.cat([beams.finished, tokens[:, :places]], 1)
    new = replace(
        beams,
        tokens=tokens.gather(1, _over_time(order, tokens)),
        log_probs=continued,
        finished=finished.gather(1, _over_time(best, finished)),
        scores=scores,
    )
    first_row = torch.arange(count, device=words.device)[:, None] * places
    return first_row + parents.gather(1, order), new


def _allowed(beams: Beams, logits: Tensor, length: int, some_must_end: bool, beginnings: Beginnings | None) -> Tensor:
    """The logits (N * K, V), with -inf for what must not be token number `length`."""
    for token in NEVER_EMITTED:
        logits[:, token] = -torch.inf
    if some_must_end:
        goes_on = torch.arange(logits.shape[1], device=logits.device) != EOS
        must_end = (beams.longest <= length).repeat_interleave(beams.log_probs.shape[1])
        logits = logits.masked_fill(must_end[:, None] & goes_on, -torch.inf)
    if beginnings is not None:
        beginnings.hide_others(
            logits, beams.sentences, beams.tokens[:, :, : length - 1], beams.log_probs > -torch.inf
        )
    return logits


def _best_extensions(beams: Beams, logits: Tensor, normaliser: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The best 2 K one-token extensions of each sentence: log P, token and parent place, each (N, 2 K), sorted."""
    count, places = beams.log_probs.shape
    width = min(2 * places, logits.shape[1])
    best, words = logits.topk(width, dim=1)
    candidates = beams.log_probs[:, :, None] + (best - normaliser).view(count, places, width)
    log_probs, flat = candidates.view(count, -1).topk(2 * places, dim=1)
    return log_probs, words.view(count, -1).gather(1, flat), flat // width


def _stop(beams: Beams, length: int, params: DecodingParams, nbest: int) -> Beams:
    """Close the open hypotheses of sentences that need no further search.

    log P only falls and alpha >= 0, so an open hypothesis never scores above log P / lp(longest).
    """
    bound = beams.log_probs[:, 0] / length_penalty(beams.longest, params.alpha)
    full = beams.scores[:, -1] > -torch.inf
    settled = beams.scores[:, nbest - 1] >= bound
    stopped = full | settled | (beams.longest <= length)
    return replace(beams, log_probs=beams.log_probs.masked_fill(stopped[:, None], -torch.inf))


def _follow(state: DecoderState, parents: Tensor, places: int) -> DecoderState:
    """The decoder state with the rows of `parents` (N, K).

    The hypotheses of a sentence share its encoder output, which moves only when sentences are dropped.
    """
    rows = parents.flatten()
    if len(rows) < len(state.source_mask):
        return state.select(rows)
    if places == 1:
        return state
    return replace(
        state, past=[(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in state.past]
    )


def _over_time(places: Tensor, tokens: Tensor) -> Tensor:
    """Indices (N, P) repeated for each time step of `tokens` (N, *, T), as `gather` wants them."""
    return places[:, :, None].expand(-1, -1, tokens.shape[2])


def _hypotheses(tokens: Tensor, scores: Tensor) -> list[list[Hypothesis]]:
    """Lists of (B, n, T) tokens and (B, n) scores, empty places left out."""
    return [
        [Hypothesis(row[: row.index(EOS)], score) for row, score in zip(*places, strict=True) if score > -torch.inf]
        for places in zip(tokens.tolist(), scores.tolist(), strict=True)
    ]
