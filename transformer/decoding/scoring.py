"""How likely a model finds each token of a given translation, and where it looked: one pass, no search."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer.decoding.ensemble import mean_probability
from transformer.decoding.recorded_attention import RecordedAttention
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, PAD


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
    logits, looked = [], []
    for model in models:
        with RecordedAttention() as recorded:
            hidden = model.hidden(source, read)
        with torch.autocast(device.type, enabled=False):  # as Transformer.step does
            logits.append(model.embedding.logits(hidden.float()))
        looked.append(_cross_attention(recorded.weights, model))
    log_probs = mean_probability(logits).gather(-1, written[:, :, None])[:, :, 0].tolist()
    weights = torch.stack(looked).mean(0) if aligned else None
    return [
        TokenScores(
            log_probs[pair][: len(target) + 1],
            [] if weights is None else weights[pair, : len(target) + 1, : len(sources[pair])].tolist(),
        )
        for pair, target in enumerate(targets)
    ]


def _cross_attention(recorded: list[Tensor], model: Transformer) -> Tensor:
    """Mean weights (pairs, target length, source length) of what `hidden` has computed.

    That is: the encoder's layers, then each decoder layer's attention to the target and to the source.
    """
    return torch.stack(recorded[model.params.encoder_layers + 1 :: 2]).float().mean((0, 2))


def _padded(rows: list[list[int]], device: torch.device) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows], device=device)
