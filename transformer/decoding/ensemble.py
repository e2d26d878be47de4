"""Several models that translate together: the mean of their probabilities, token by token."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from transformer.model.transformer import DecoderState, Transformer
from transformer.params import ModelParams


class Ensemble:
    """Stands in for a Transformer in a search: it starts, steps, and says how long sentences may be.

    Its decoder state holds the layers of all models, one model after another.
    """

    def __init__(self, models: Sequence[Transformer]) -> None:
        self.models = models
        positions = min(model.params.max_positions for model in models)
        self.params: ModelParams = models[0].params.model_copy(update={"max_positions": positions})

    def start(self, source: Tensor, beam: int = 1) -> DecoderState:
        """See Transformer.start."""
        states = [model.start(source, beam) for model in self.models]
        past = [layer for state in states for layer in state.past]
        memory = [layer for state in states for layer in state.memory]
        return DecoderState(0, past, memory, states[0].source_mask)

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """log of the mean probability, float32 (rows, vocabulary), of the token after `tokens` (rows,)."""
        logits, first = [], 0
        for model in self.models:
            layers = slice(first, first + model.params.decoder_layers)
            own = DecoderState(state.position, state.past[layers], state.memory[layers], state.source_mask)
            logits.append(model.step(tokens, own))
            state.past[layers] = own.past
            first = layers.stop
        state.position += 1
        return mean_probability(logits)


def mean_probability(logits: list[Tensor]) -> Tensor:
    """log of the mean of the distributions that these logits stand for."""
    log_probs = torch.stack([one.float().log_softmax(-1) for one in logits])
    return log_probs.logsumexp(0) - math.log(len(logits))
