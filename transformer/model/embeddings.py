"""Embeddings and softmax (paper, section 3.4)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from transformer.model.linear import linear


class SharedEmbedding(nn.Module):
    """One matrix for source embeddings, target embeddings and the pre-softmax projection."""

    def __init__(self, vocabulary_size: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(vocabulary_size, d_model))
        # Scaled by sqrt(d_model) on the way in, so that both uses start with unit variance.
        nn.init.normal_(self.weight, std=d_model**-0.5)
        self.scale = math.sqrt(d_model)

    def forward(self, tokens: Tensor) -> Tensor:
        """Vectors of shape (…, d_model) for token ids of shape (…), multiplied by sqrt(d_model)."""
        return F.embedding(tokens, self.weight) * self.scale

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary, (…, vocabulary), for decoder outputs (…, d_model)."""
        return linear(hidden, self.weight)
