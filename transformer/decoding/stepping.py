"""The network for a beam search: one position after another of all hypotheses, nothing copied that stays the same.

The hypotheses of a sentence share its encoder output and one store of keys and values, to which each position adds
those of its hypotheses. They never move: a mask says which of them a hypothesis descends from.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from transformer.decoding.ensemble import Ensemble, mean_probability
from transformer.decoding.packed_product import Product
from transformer.model.layers import (
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    Residual,
    SharedEmbedding,
)
from transformer.model.transformer import Transformer
from transformer.params import ModelParams
from transformer.tokens.vocabulary import PAD

FIRST_SLOTS = 32  # hypotheses x positions for which a store has room at first


class SteppingNetwork:
    """Models with their weights packed once, for many searches; several are an ensemble."""

    def __init__(self, models: Sequence[Transformer], params: ModelParams) -> None:
        self.params = params
        self._networks = [_Network(model) for model in models]

    @classmethod
    def of(cls, model: Transformer | Ensemble) -> "SteppingNetwork":
        """That of a model or an ensemble, whose weights may not change afterwards."""
        return cls(model.models if isinstance(model, Ensemble) else [model], model.params)

    def start(self, source: Tensor) -> "Steps":
        """Encode `source` (N, S), each row ending with EOS and then PAD."""
        return Steps([_Remembered(network, source) for network in self._networks])


class Steps:
    """The hypotheses of N sentences, K each, and what the network remembers of them."""

    def __init__(self, each: list["_Remembered"]) -> None:
        self._each = each
        self._hidden = list[Tensor]()

    def advance(self, tokens: Tensor) -> None:
        """Feed each hypothesis a token, (N, K); K may be another at the first position than later."""
        self._hidden = [one.step(tokens) for one in self._each]

    def log_probs(self, sentences: slice) -> Tensor:
        """log P (n x K, V), float32, of the tokens that may come next in these sentences."""
        with torch.autocast(self._hidden[0].device.type, enabled=False):  # as in Transformer.step
            logits = [
                one.network.logits(hidden[sentences].flatten(0, 1).float())
                for one, hidden in zip(self._each, self._hidden, strict=True)
            ]
        return logits[0].float().log_softmax(-1) if len(logits) == 1 else mean_probability(logits)

    def follow(self, parents: Tensor) -> None:
        """Go on with the hypotheses at these places (N, K) of each sentence."""
        for one in self._each:
            one.ancestors = one.ancestors.gather(1, parents[:, :, None].expand(-1, -1, one.ancestors.size(2)))

    def keep(self, sentences: Tensor) -> None:
        """Only these sentences, as `refilled` gives them."""
        for one in self._each:
            one.keep(sentences)


def refilled(kept: Tensor) -> Tensor:
    """The indices (n,) of the n sentences that are True in `kept` (N,), in an order that moves few of them.

    Those that stand behind the first n take the places of those that go.
    """
    count = int(kept.sum())
    sentences = torch.arange(count, device=kept.device)
    sentences[~kept[:count]] = kept[count:].nonzero().flatten() + count
    return sentences


class _Remembered:
    """What one model remembers of N sentences and their hypotheses."""

    def __init__(self, network: "_Network", source: Tensor) -> None:
        real = source != PAD
        self.network = network
        self.mask = None if bool(real.all()) else real[:, None, None]
        self.memory = network.encode(source, self.mask)
        self.position = self.slots = 0
        self.stores = list[Tensor]()  # a layer's keys and values (N, room, width)
        self.ancestors = torch.zeros(len(source), 1, 0, dtype=torch.bool, device=source.device)  # (N, K, slots)

    def step(self, tokens: Tensor) -> Tensor:
        """Decoder outputs (N, K, d_model) after these tokens (N, K)."""
        count, places = tokens.shape
        x = self.network.embed(tokens.reshape(-1, 1), self.position).flatten(0, 1)
        own = torch.eye(places, dtype=torch.bool, device=tokens.device).expand(count, -1, -1)
        self.ancestors = torch.cat([self.ancestors.expand(-1, places, -1), own], 2)
        for index, layer in enumerate(self.network.decoder):
            x = layer.step(x, partial(self._stored, index), self.ancestors, self.memory[index], self.mask)
        self.position, self.slots = self.position + 1, self.slots + places
        hidden: Tensor = self.network.decoder_norm(x)
        return hidden.view(count, places, -1)

    def keep(self, sentences: Tensor) -> None:
        """See Steps; a store changes only where a sentence takes another's place."""
        count = len(sentences)
        moved = (sentences != torch.arange(count, device=sentences.device)).nonzero().flatten()
        origins = sentences[moved]

        def kept(held: Tensor) -> Tensor:
            held[moved] = held[origins]
            return held[:count]

        self.memory, self.stores = list(map(kept, self.memory)), list(map(kept, self.stores))
        self.ancestors = kept(self.ancestors)
        self.mask = None if self.mask is None else kept(self.mask)

    def _stored(self, layer: int, new: Tensor) -> Tensor:
        """A layer's keys and values (N, slots, width), with those of the last tokens, `new`, at the end."""
        slots = self.slots + new.size(1)
        if layer == len(self.stores):
            self.stores.append(new.new_empty(len(new), 0, new.size(2)))
        if (short := slots - self.stores[layer].size(1)) > 0:
            room = new.new_empty(len(new), max(short, FIRST_SLOTS, self.slots), new.size(2))
            self.stores[layer] = torch.cat([self.stores[layer], room], 1)
        self.stores[layer][:, self.slots : slots] = new
        return self.stores[layer][:, :slots]


class _Network:
    """A model's layers with packed weights."""

    def __init__(self, model: Transformer) -> None:
        self._model = model
        self._encoder = [_EncoderLayer(layer) for layer in cast(list[EncoderLayer], model.encoder)]
        self.decoder = [_DecoderLayer(layer) for layer in model.decoder_layers]
        self.decoder_norm = model.decoder_norm
        project = model.embedding.logits
        packs = getattr(project, "__func__", None) is SharedEmbedding.logits  # not where it is replaced
        self.logits: Callable[[Tensor], Tensor] = Product(model.embedding.weight) if packs else project

    def embed(self, tokens: Tensor, position: int = 0) -> Tensor:
        """(rows, length, d_model) for tokens (rows, length) from this position on."""
        output: Tensor = self._model.positions(self._model.embedding(tokens), position)
        return output

    def encode(self, source: Tensor, mask: Tensor | None) -> list[Tensor]:
        """For each layer of the decoder the keys and values (N, S, width) of the encoder's output."""
        x = self.embed(source).flatten(0, 1)
        for layer in self._encoder:
            x = layer.forward(x, len(source), mask)
        x = self._model.encoder_norm(x)
        return [layer.remember(x).view(*source.shape, -1) for layer in self.decoder]


class _Attention:
    """Attention of rows (N, length, …) with the products around it; see MultiHeadAttention."""

    def __init__(self, attention: MultiHeadAttention) -> None:
        self._heads = attention.heads
        self.keys = attention.widths[0]
        self._out = Product(attention.project_out.weight, attention.project_out.bias)

    def __call__(self, query: Tensor, remembered: Tensor, mask: Tensor | None) -> Tensor:
        """(N x length, d_model) for queries (N, length, keys) and keys and values together (N, length', width)."""
        key, value = remembered[..., : self.keys], remembered[..., self.keys :]
        query, key, value = map(self._split, (query, key, value))
        heads = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return self._out(heads.transpose(1, 2).flatten(2).flatten(0, 1))

    def _split(self, x: Tensor) -> Tensor:
        count, length, _ = x.shape
        return x.view(count, length, self._heads, -1).transpose(1, 2)


class _Around:
    """Norm and sum around a sublayer; see Residual."""

    def __init__(self, residual: Residual) -> None:
        self._norm, self._pre_norm = residual.norm, residual.pre_norm

    def __call__(self, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        if self._pre_norm:
            return x + sublayer(self._norm(x))
        output: Tensor = self._norm(x + sublayer(x))
        return output


class _SelfAttention:
    def __init__(self, attention: MultiHeadAttention, around: Residual) -> None:
        self._in = Product(attention.project_in.weight, attention.project_in.bias)
        self._attention, self._around = _Attention(attention), _Around(around)

    def __call__(self, x: Tensor, count: int, remember: Callable[[Tensor], Tensor], mask: Tensor | None) -> Tensor:
        """x is (N x length, d_model); `remember` gets its keys and values (N, length, width), and returns all."""

        def attend(y: Tensor) -> Tensor:
            projected, keys = self._in(y).view(count, len(y) // count, -1), self._attention.keys
            return self._attention(projected[..., :keys], remember(projected[..., keys:]), mask)

        return self._around(x, attend)


class _FeedForward:
    def __init__(self, feed_forward: FeedForward, around: Residual) -> None:
        self._inner = Product(feed_forward.inner.weight, feed_forward.inner.bias, relu=True)
        self._outer = Product(feed_forward.outer.weight, feed_forward.outer.bias)
        self._around = _Around(around)

    def __call__(self, x: Tensor) -> Tensor:
        return self._around(x, lambda y: self._outer(self._inner(y)))


class _EncoderLayer:
    def __init__(self, layer: EncoderLayer) -> None:
        self._self_attention = _SelfAttention(layer.self_attention, layer.around_self_attention)
        self._feed_forward = _FeedForward(layer.feed_forward, layer.around_feed_forward)

    def forward(self, x: Tensor, count: int, mask: Tensor | None) -> Tensor:
        """x: (N x S, d_model)."""
        return self._feed_forward(self._self_attention(x, count, lambda remembered: remembered, mask))


class _DecoderLayer:
    def __init__(self, layer: DecoderLayer) -> None:
        attention = layer.cross_attention
        weight, bias, queries = attention.project_in.weight, attention.project_in.bias, attention.widths[0]
        self._self_attention = _SelfAttention(layer.self_attention, layer.around_self_attention)
        self._queries = Product(weight[:queries], bias[:queries])
        self.remember = Product(weight[queries:], bias[queries:])  # the encoder's output
        self._cross_attention = _Attention(attention)
        self._around_cross_attention = _Around(layer.around_cross_attention)
        self._feed_forward = _FeedForward(layer.feed_forward, layer.around_feed_forward)

    def step(
        self,
        x: Tensor,
        remember: Callable[[Tensor], Tensor],
        ancestors: Tensor,
        memory: Tensor,
        source_mask: Tensor | None,
    ) -> Tensor:
        """x: (N x K, d_model); for the others see _Remembered."""
        count, places, _ = ancestors.shape

        def attend(y: Tensor) -> Tensor:
            return self._cross_attention(self._queries(y).view(count, places, -1), memory, source_mask)

        x = self._self_attention(x, count, remember, ancestors[:, None])
        return self._feed_forward(self._around_cross_attention(x, attend))
