"""Loss and greedy BLEU on the validation split during training."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from sacrebleu.metrics import BLEU

from transformer.decoding.greedy import greedy
from transformer.model.transformer import Transformer
from transformer.tokens.store import TokenSplit
from transformer.tokens.vocabulary import Vocabulary
from transformer.training.batching import Indices, assemble, micro_batches, target_token_count
from transformer.training.objective import smoothed_cross_entropy

GREEDY_TOKENS = 4096  # padded source tokens decoded at a time


@dataclass(frozen=True)
class Validation:
    """Cross-entropy in nats a target token (not smoothed), and BLEU of greedy translations, if asked for.

    `old_loss` is the cross-entropy on the validation set of the parent's corpus, if there is one.
    """

    loss: float
    bleu: float | None
    old_loss: float | None = None

    @property
    def perplexity(self) -> float:
        """exp(loss), per token."""
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
def greedy_bleu(
    model: Transformer, vocabulary: Vocabulary, split: TokenSplit, sentences: Indices, tokenizer: str
) -> float:
    """sacreBLEU, with its tokeniser of that name, of greedy translations of these sentences."""
    by_length = sentences[np.argsort(split.source.lengths[sentences], kind="stable")]
    hypotheses: list[str] = []
    longest = max(int(side.lengths[sentences].max()) for side in (split.source, split.target))
    for batch in micro_batches(split, by_length, max(GREEDY_TOKENS, longest)):
        source = assemble(split, batch).source.to(model.device)
        hypotheses += [vocabulary.decode(ids) for ids in greedy(model, source)]
    references = [vocabulary.decode(split.target[index].tolist()) for index in by_length]
    return float(BLEU(tokenize=tokenizer).corpus_score(hypotheses, [references]).score)
