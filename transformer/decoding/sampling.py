"""Translations drawn at random from the model's distribution, the same ones for the same seed."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from transformer.decoding.ensemble import Ensemble
from transformer.decoding.greedy import steps_between_waits
from transformer.decoding.hypothesis import NEVER_EMITTED, Hypothesis, length_penalty
from transformer.decoding.prefix import Beginnings
from transformer.decoding.search import longest_lengths
from transformer.decoding.translation import Sampling
from transformer.model.transformer import Transformer
from transformer.params import DecodingParams
from transformer.tokens.vocabulary import BOS, EOS


@torch.inference_mode()
def sample(
    model: Transformer | Ensemble,
    source: Tensor,
    params: DecodingParams,
    sampling: Sampling,
    streams: Sequence[tuple[int, ...]],
    draws: int = 1,
    beginnings: Beginnings | None = None,
) -> list[list[Hypothesis]]:
    """`draws` translations of each sentence of `source` (B, S), in the order in which they were drawn.

    Sentence b draws from the stream of random numbers that the seed and `streams[b]` name, whatever else is in the
    batch. Scores are the model's own: temperature, `top_k` and beginnings choose, they do not score.
    """
    longest = longest_lengths(source, params, model.params.max_positions, beginnings)
    steps = int(longest.max())
    generators = [
        np.random.Generator(np.random.PCG64([sampling.seed, draw, *stream]))
        for stream in streams
        for draw in range(draws)
    ]
    state = model.start(source, draws)
    rows = len(source) * draws
    last, tokens = (
        torch.full((rows,), BOS, device=source.device),
        torch.full((rows, steps), EOS, device=source.device),
    )
    log_probs, ended = (
        torch.zeros(rows, device=source.device),
        torch.zeros(rows, dtype=torch.bool, device=source.device),
    )
    must_end = longest.repeat_interleave(draws)
    for step in range(steps):
        logits = model.step(last, state).float()
        likelihood = logits.log_softmax(-1)
        for token in NEVER_EMITTED:
            logits[:, token] = -torch.inf
        if beginnings is not None:
            written, is_open = tokens.view(len(source), draws, -1)[:, :, :step], ~ended.view(len(source), draws)
            beginnings.hide_others(logits, torch.arange(len(source)), written, is_open)
        last = _drawn(logits, sampling, generators).masked_fill(ended | (must_end <= step + 1), EOS)
        log_probs += likelihood.gather(1, last[:, None])[:, 0].masked_fill(ended, 0.0)
        tokens[:, step] = last
        ended = ended | (last == EOS)
        if (step + 1) % steps_between_waits(source.device) == 0 and ended.all():
            break
    return _hypotheses(tokens.tolist(), log_probs.tolist(), draws, params.alpha)


def _drawn(logits: Tensor, sampling: Sampling, generators: list[np.random.Generator]) -> Tensor:
    """A token (rows,) of each row's distribution, with random numbers of the row's own.

    The smallest of exponential variables with the tokens' probabilities as rates (the Gumbel-max trick). Another
    batch changes logits in their last digits, which changes this draw hardly ever; where cumulated probabilities pass
    a random number, thousands of unlikely tokens would lie within that error.
    """
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k, dim=-1).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    noise = np.stack([generator.standard_exponential(logits.shape[1]) for generator in generators])
    rates = torch.from_numpy(np.log(np.maximum(noise, np.finfo(np.float64).tiny))).float().to(logits.device)
    return (logits / sampling.temperature - rates).argmax(-1)


def _hypotheses(tokens: list[list[int]], log_probs: list[float], draws: int, alpha: float) -> list[list[Hypothesis]]:
    found = []
    for row, log_prob in zip(tokens, log_probs, strict=True):
        ids = row[: row.index(EOS)]
        found.append(Hypothesis(ids, log_prob / float(length_penalty(float(len(ids) + 1), alpha))))
    return [found[start : start + draws] for start in range(0, len(found), draws)]
