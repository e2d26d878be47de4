"""Greedy search, for a quick look at a model in training; and how often a search checks whether it is done."""

import torch
from torch import Tensor

from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS

MAX_EXTRA_LENGTH = 50  # paper, section 6.1


def greedy(model: Transformer, source: Tensor) -> list[list[int]]:
    """The likeliest token at each position, until EOS or source length + 50; EOS is left out.

    `source` is (batch, source length) int64; the caller chooses eval mode, autocast and no_grad.
    """
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


def steps_between_waits(device: torch.device) -> int:
    """Decoding steps between two checks of which sentences have ended; each check makes an accelerator wait."""
    return 1 if device.type == "cpu" else 8
