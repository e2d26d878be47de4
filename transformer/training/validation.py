"""Loss and greedy BLEU on the validation split while training goes on."""

import math
from dataclasses import dataclass

import numpy as np
import sacrebleu
import torch
from torch import Tensor

from transformer.data.tokenize.store import TokenSplit
from transformer.data.tokenize.vocabulary import BOS, EOS, Vocabulary
from transformer.model.device import steps_between_waits
from transformer.model.transformer import Transformer
from transformer.training.batching import Indices, assemble, micro_batches, target_token_count
from transformer.training.objective import smoothed_cross_entropy

MAX_EXTRA_LENGTH = 50  # paper, section 6.1
GREEDY_TOKENS = 4096  # padded source tokens decoded at a time


@dataclass(frozen=True)
class Validation:
    """Cross-entropy in nats a target token (not smoothed), and BLEU of greedy translations where asked for."""

    loss: float
    bleu: float | None

    @property
    def perplexity(self) -> float:
        """exp(loss), a token."""
        return math.exp(min(self.loss, 700))


@torch.no_grad()
def validation_loss(
    model: Transformer, split: TokenSplit, usable: Indices, max_tokens: int, precision: torch.dtype
) -> float:
    """Cross-entropy in nats a target token over the usable sentences of `split`."""
    lengths = split.target.lengths[usable]
    by_length = usable[np.argsort(lengths, kind="stable")]
    total = torch.zeros((), device=model.device)
    for sentences in micro_batches(split, by_length, max_tokens):
        batch = assemble(split, sentences).to(model.device)
        hidden = model.hidden(batch.source, batch.target_in)
        total += smoothed_cross_entropy(hidden, model.embedding.weight, batch.target_out, 0.0, precision)
    return float(total) / target_token_count(split, usable)


@torch.no_grad()
def greedy_bleu(model: Transformer, vocabulary: Vocabulary, split: TokenSplit, sentences: Indices) -> float:
    """sacreBLEU of greedy translations of these sentences against their references."""
    by_length = sentences[np.argsort(split.source.lengths[sentences], kind="stable")]
    hypotheses: list[str] = []
    for batch in micro_batches(split, by_length, GREEDY_TOKENS):
        source = assemble(split, batch).source.to(model.device)
        hypotheses += [vocabulary.decode(ids) for ids in greedy(model, source)]
    references = [vocabulary.decode(split.target[index].tolist()) for index in by_length]
    return float(sacrebleu.corpus_bleu(hypotheses, [references]).score)


def greedy(model: Transformer, source: Tensor) -> list[list[int]]:
    """The likeliest token at each position, until EOS or source length + 50; EOS is left out."""
    state = model.start(source)
    tokens = torch.full((len(source),), BOS, device=source.device)
    ended = torch.zeros(len(source), dtype=torch.bool, device=source.device)
    output = []
    longest = min(source.size(1) + MAX_EXTRA_LENGTH, model.params.max_positions)
    wait_every = steps_between_waits(source.device)
    for step in range(1, longest + 1):
        tokens = model.step(tokens, state).argmax(-1).masked_fill(ended, EOS)
        output.append(tokens)
        ended |= tokens == EOS
        if step % wait_every == 0 and ended.all():
            break
    rows = torch.stack(output, dim=1).tolist()
    return [row[: row.index(EOS)] if EOS in row else row for row in rows]
