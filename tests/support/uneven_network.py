"""Networks whose hypotheses end at many different lengths, and sentences for them."""

from collections.abc import Callable

import torch
from torch import Tensor

from transformer.model.transformer import Transformer
from transformer.params import DecodingParams, ModelParams
from transformer.tokens.vocabulary import EOS, PAD

VOCABULARY_SIZE = 14


def tiny_model(seed: int, vocabulary_size: int = VOCABULARY_SIZE, max_positions: int = 64) -> Transformer:
    """A random network with uneven distributions that depend on all tokens and end at many different lengths."""
    torch.manual_seed(seed)
    params = ModelParams(
        d_model=16, d_ff=32, heads=2, encoder_layers=1, decoder_layers=2,
        dropout=0.1, positions="sinusoidal", norm="pre", max_positions=max_positions,
    )  # fmt: skip
    model = Transformer(params, vocabulary_size).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.copy_(torch.randn_like(weight))
    change_logits(model, lambda logits: 0.5 * logits + torch.eye(vocabulary_size)[EOS])
    return model


def change_logits(model: Transformer, change: Callable[[Tensor], Tensor]) -> None:
    project = model.embedding.logits
    model.embedding.logits = lambda x: change(project(x))


def sentences(seed: int, lengths: list[int], vocabulary_size: int = VOCABULARY_SIZE) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [[*torch.randint(4, vocabulary_size, (n,), generator=generator).tolist(), EOS] for n in lengths]


def padded(rows: list[list[int]]) -> Tensor:
    longest = max(map(len, rows))
    return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])


def settings(beam: int = 4, alpha: float = 0.6, extra: int = 8) -> DecodingParams:
    return DecodingParams(beam=beam, alpha=alpha, max_extra_length=extra, batch_tokens=1000)
