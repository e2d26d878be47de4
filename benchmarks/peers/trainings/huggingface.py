"""Hugging Face's MarianMTModel in a plain loop: sentences of like length fill a batch, its products in autocast."""

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from transformers import MarianConfig, MarianMTModel

from benchmarks.peers.trainings.trial import Clock, Recipe, Trial

PAD, BOS, EOS = 0, 2, 3  # of our vocabulary
Sentences = list[NDArray[np.int64]]


def main() -> None:
    """Train."""
    trial = Trial.asked()
    recipe, clock = trial.recipe, Clock(trial)
    torch.manual_seed(recipe.seed)
    model = MarianMTModel(configuration(recipe)).train()
    parameters = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    betas = (recipe.adam_beta1, recipe.adam_beta2)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.0, betas=betas, eps=recipe.adam_epsilon)
    updates = batches(sentences(trial, "source"), sentences(trial, "target"), recipe)
    for update in range(1, trial.all_updates + 1):
        source, target_in, target_out = next(updates)
        tokens = int((target_out != PAD).sum())
        with torch.autocast("cpu", torch.bfloat16, enabled=trial.precision == "bf16"):
            logits = model(source, attention_mask=source != PAD, decoder_input_ids=target_in).logits
        loss = F.cross_entropy(
            logits.flatten(0, 1).float(), target_out.flatten(), ignore_index=PAD, reduction="sum",
            label_smoothing=recipe.label_smoothing,
        )  # fmt: skip
        (loss / tokens).backward()
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate(update)
        optimizer.step()
        optimizer.zero_grad()
        clock.saw(tokens, loss.item())
        clock.updated(parameters)


def configuration(recipe: Recipe) -> MarianConfig:
    """The paper's network: post-norm, sinusoids, one embedding matrix; no dropout inside of a sub-layer."""
    return MarianConfig(
        vocab_size=recipe.vocabulary_size, d_model=recipe.d_model, encoder_layers=recipe.layers,
        decoder_layers=recipe.layers, encoder_attention_heads=recipe.heads, decoder_attention_heads=recipe.heads,
        encoder_ffn_dim=recipe.d_ff, decoder_ffn_dim=recipe.d_ff, activation_function="relu", dropout=recipe.dropout,
        attention_dropout=0.0, activation_dropout=0.0, scale_embedding=True,
        max_position_embeddings=recipe.max_positions, share_encoder_decoder_embeddings=True, pad_token_id=PAD,
        eos_token_id=EOS, decoder_start_token_id=BOS, forced_eos_token_id=EOS, use_cache=False,
    )  # fmt: skip


def sentences(trial: Trial, side: str) -> Sentences:
    """The ids of the training sentences, each with its end."""
    ids = np.load(trial.corpus / "tokens" / f"train.{side}.ids.npy").astype(np.int64)
    places = np.load(trial.corpus / "tokens" / f"train.{side}.offsets.npy")
    return np.split(ids, places[1:-1])


def batches(source: Sentences, target: Sentences, recipe: Recipe) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Source, decoder's input and what it is to say, epoch after epoch, the batches of each in random order.

    A batch holds as many sentences of like length as have `batch_tokens` target tokens, padding not counted.
    """
    random = np.random.default_rng(recipe.seed)
    order = sorted(range(len(source)), key=lambda index: (len(target[index]), len(source[index])))
    groups: list[list[int]] = [[]]
    room = recipe.batch_tokens
    for index in order:
        if groups[-1] and len(target[index]) > room:
            groups.append([])
            room = recipe.batch_tokens
        groups[-1].append(index)
        room -= len(target[index])
    while True:
        for place in random.permutation(len(groups)):
            target_out = _padded([target[index] for index in groups[place]])
            target_in = torch.cat([torch.full_like(target_out[:, :1], BOS), target_out[:, :-1]], dim=1)
            yield _padded([source[index] for index in groups[place]]), target_in, target_out


def _padded(rows: Sentences) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence(
        [torch.from_numpy(row) for row in rows], batch_first=True, padding_value=PAD
    )


if __name__ == "__main__":
    main()
