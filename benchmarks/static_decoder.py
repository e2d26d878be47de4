"""The decoder's step with tensors of one size for a whole batch, so that torch.compile can replay it as a CUDA graph.

The network's own step appends to its keys and values, which makes each step's kernels other ones. Here they have room
for the longest hypothesis from the start, and a mask hides what is not yet written. `beam_search` takes it as a
`StaticNetwork`; `benchmarks.decoding --cuda-graphs` compares it with the library's own.
"""

from dataclasses import replace
from typing import cast

import torch
from torch import Tensor

from transformer.model.layers import DecoderLayer
from transformer.model.transformer import DecoderState, Transformer


class StaticDecoder:
    """Stands in for a Transformer in `beam_search`: starts and steps, and says what its params are."""

    def __init__(self, model: Transformer, extra_length: int, *, graphs: bool) -> None:
        """`extra_length` tokens beyond its source a hypothesis may have; `graphs` compiles the step (on a GPU)."""
        self.params = model.params
        self._model, self._extra = model, extra_length
        self._step = torch.compile(self._whole_step, mode="reduce-overhead") if graphs else self._whole_step

    def start(self, source: Tensor, beam: int = 1) -> DecoderState:
        """As `Transformer.start`, with room for all positions that will come."""
        state = self._model.start(source, beam)
        longest = min(source.size(1) + self._extra, self.params.max_positions)
        state.past = [
            tuple(held.new_zeros(*held.shape[:2], longest, held.size(3)) for held in both) for both in state.past
        ]
        return state

    def step(self, tokens: Tensor, state: DecoderState) -> Tensor:
        """As `Transformer.step`."""
        position = torch.tensor([state.position], device=tokens.device)
        for rows in (tokens, state.source_mask, *(held for both in (*state.past, *state.memory) for held in both)):
            torch._dynamo.maybe_mark_dynamic(rows, 0)  # sentences that are done leave
        logits, state.past = self._step(tokens, position, state.past, state.memory, state.source_mask)
        state.position += 1
        return logits.clone()  # a graph's next replay writes over its outputs

    def _whole_step(
        self,
        tokens: Tensor,
        position: Tensor,
        past: list[tuple[Tensor, Tensor]],
        memory: list[tuple[Tensor, Tensor]],
        source_mask: Tensor,
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        model, grown = self._model, []
        places = torch.arange(past[0][0].size(2), device=tokens.device)
        here, written = (places == position)[:, None], (places <= position)[None]
        x = model._embed(tokens[:, None], position)
        for layer, before, of_source in zip(model.decoder_layers, past, memory, strict=True):
            x, after = _layer_step(layer, x, before, of_source, source_mask, here, written)
            grown.append(after)
        hidden = model.decoder_norm(x)[:, 0]
        with torch.autocast(hidden.device.type, enabled=False):  # as in Transformer.step
            return model.embedding.logits(hidden.float()), grown


class StaticNetwork:
    """Stands in for a SteppingNetwork in `beam_search`."""

    def __init__(self, decoder: StaticDecoder) -> None:
        self.params, self._decoder = decoder.params, decoder

    def start(self, source: Tensor) -> "StaticSteps":
        """As `SteppingNetwork.start`."""
        return StaticSteps(self._decoder, self._decoder.start(source), len(source))


class StaticSteps:
    """See transformer.decoding.stepping.Steps; a row a hypothesis."""

    def __init__(self, decoder: StaticDecoder, state: DecoderState, count: int) -> None:
        self._decoder, self._state, self._count, self._places = decoder, state, count, 1

    def advance(self, tokens: Tensor) -> None:
        """As `Steps.advance`."""
        self._logits = self._decoder.step(tokens.flatten(), self._state).view(*tokens.shape, -1)

    def log_probs(self, sentences: slice) -> Tensor:
        """As `Steps.log_probs`."""
        return self._logits[sentences].flatten(0, 1).log_softmax(-1)

    def follow(self, parents: Tensor) -> None:
        """As `Steps.follow`; the encoder's output is copied only where the hypotheses become more."""
        first = torch.arange(self._count, device=parents.device)[:, None] * self._places
        rows = (first + parents).flatten()
        if parents.size(1) != self._places:
            self._state, self._places = self._state.select(rows), parents.size(1)
            return
        past = [(keys.index_select(0, rows), values.index_select(0, rows)) for keys, values in self._state.past]
        self._state = replace(self._state, past=past)

    def keep(self, sentences: Tensor) -> None:
        """As `Steps.keep`."""
        places = torch.arange(self._places, device=sentences.device)
        self._state = self._state.select((sentences[:, None] * self._places + places).flatten())
        self._count = len(sentences)


def _layer_step(
    layer: DecoderLayer,
    x: Tensor,
    past: tuple[Tensor, Tensor],
    memory: tuple[Tensor, Tensor],
    source_mask: Tensor,
    here: Tensor,
    written: Tensor,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """One layer's output at this position, and its keys and values with this position's among them."""
    grown = past

    def attend(y: Tensor) -> Tensor:
        nonlocal grown
        new = layer.self_attention.keys_values(y)
        grown = cast(
            tuple[Tensor, Tensor],
            tuple(torch.where(here, one.to(held.dtype), held) for one, held in zip(new, past, strict=True)),
        )
        return layer.self_attention.attend(layer.self_attention.queries(y), *grown, mask=written)

    return layer._sublayers(x, memory, source_mask, attend), grown
