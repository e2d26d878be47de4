"""How likely a model finds each token of a given translation, and where it looked: one pass, no search."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.decoding.ensemble import mean_probability
from transformer.decoding.recorded_attention import RecordedAttention
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, PAD

ROWS = 1024  # positions whose logits are held at a time


@dataclass(frozen=True)
class TokenScores:
    """Of each token of a translation, its end of sentence included."""

    log_probs: list[float]  # log P of the token, given the source and the tokens before it
    alignment: list[list[float]]  # for each token the weights of the source's tokens, end of sentence included


@torch.inference_mode()
def score_tokens(
    models: Sequence[Transformer], sources: list[list[int]], targets: list[list[int]], aligned: bool = True
) -> list[TokenScores]:
    """The scores of each pair; `sources` end with EOS, `targets` do not. The caller chooses eval mode and autocast.

    Of several models it is the mean of their probabilities and of their attention. The alignment is the
    cross-attention averaged over all heads of all layers; without `aligned` it is left out.
    """
    device = models[0].device
    source, read = _padded(sources, device), _padded([[BOS, *target] for target in targets], device)
    written = _padded([[*target, EOS] for target in targets], device)
    hidden, looked = [], []
    for model in models:
        with RecordedAttention() if aligned else nullcontext() as recorded:
            hidden.append(model.hidden(source, read).float())
        if recorded:
            looked.append(_cross_attention(recorded.weights, model))
    log_probs = _log_probs(models, hidden, written).tolist()
    weights = torch.stack(looked).mean(0) if aligned else None
    return [
        TokenScores(
            log_probs[pair][: len(target) + 1],
            [] if weights is None else weights[pair, : len(target) + 1, : len(sources[pair])].tolist(),
        )
        for pair, target in enumerate(targets)
    ]


def _log_probs(models: Sequence[Transformer], hidden: list[Tensor], written: Tensor) -> Tensor:
    """log P of each token of `written`, (pairs, length), a slice at a time: a vocabulary's logits fill the memory."""
    found = written.new_zeros(written.numel(), dtype=torch.float32)
    real = (written != PAD).flatten().nonzero().flatten()
    with torch.autocast(written.device.type, enabled=False):  # as Transformer.step does
        for rows in real.split(ROWS):
            logits = [
                model.embedding.logits(one.flatten(0, 1)[rows]) for model, one in zip(models, hidden, strict=True)
            ]
            found[rows] = mean_probability(logits).gather(1, written.flatten()[rows, None])[:, 0]
    return found.view(written.shape)


def _cross_attention(recorded: list[Tensor], model: Transformer) -> Tensor:
    """Mean weights (pairs, target length, source length) of what `hidden` has computed.

    That is: the encoder's layers, then each decoder layer's attention to the target and to the source.
    """
    return torch.stack(recorded[model.params.encoder_layers + 1 :: 2]).float().mean((0, 2))


def _padded(rows: list[list[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], device=device)
