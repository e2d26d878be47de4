"""`fairseq-train`, its batches counted where it computes their loss.

Its own: a batch has as many padded tokens of its longer side as the limit; the smoothed loss leaves the right piece
out of those among which the rest is divided, a difference of one in the size of the vocabulary.
"""

import dataclasses
import sys
from typing import Any

import torch  # before dataclasses change: only old packages need that

from benchmarks.peers.trainings.trial import Clock, Trial


def main() -> None:
    """Train."""
    accept_old_dataclasses()
    from fairseq.criterions.label_smoothed_cross_entropy import LabelSmoothedCrossEntropyCriterion
    from fairseq_cli.train import cli_main

    trial = Trial.asked()
    clock = Clock(trial)
    clock.watch_optimizers()
    compute = LabelSmoothedCrossEntropyCriterion.forward

    def counted(criterion: Any, model: Any, sample: Any, reduce: bool = True) -> Any:
        loss, size, found = compute(criterion, model, sample, reduce)
        clock.saw(found["ntokens"], float(found["loss"]))
        return loss, size, found

    LabelSmoothedCrossEntropyCriterion.forward = counted
    write_data(trial)
    sys.argv = ["fairseq-train", *options(trial)]
    cli_main()


def accept_old_dataclasses() -> None:
    """Let a dataclass be a default, as fairseq and its hydra have them: since Python 3.11 that needs a hash."""
    assert torch
    made = dataclasses.dataclass

    def hashed(cls: Any = None, /, **options: Any) -> Any:
        if cls is None:
            return lambda one: hashed(one, **options)
        given = "__hash__" in cls.__dict__
        return made(cls, **options if given else {"unsafe_hash": True, **options})

    dataclasses.dataclass = hashed  # type: ignore[assignment]


def write_data(trial: Trial) -> None:
    """The folder that fairseq reads: a dictionary with counts, and the text of each side."""
    pieces = trial.vocabulary.read_text(encoding="utf-8").splitlines()
    for side in ("source", "target"):
        dictionary = "".join(f"{piece} 1\n" for piece in pieces)
        (trial.folder / f"dict.{side}.txt").write_text(dictionary, encoding="utf-8")
        (trial.folder / f"train.source-target.{side}").symlink_to(trial.pieces(side))


def options(trial: Trial) -> list[str]:
    """Of the command line."""
    recipe = trial.recipe
    named = {
        "source-lang": "source", "target-lang": "target", "dataset-impl": "raw", "arch": "transformer",
        "encoder-layers": recipe.layers, "decoder-layers": recipe.layers, "encoder-embed-dim": recipe.d_model,
        "decoder-embed-dim": recipe.d_model, "encoder-ffn-embed-dim": recipe.d_ff,
        "decoder-ffn-embed-dim": recipe.d_ff, "encoder-attention-heads": recipe.heads,
        "decoder-attention-heads": recipe.heads, "dropout": recipe.dropout, "attention-dropout": 0,
        "activation-dropout": 0, "criterion": "label_smoothed_cross_entropy",
        "label-smoothing": recipe.label_smoothing, "optimizer": "adam",
        "adam-betas": f"({recipe.adam_beta1}, {recipe.adam_beta2})", "adam-eps": recipe.adam_epsilon,
        "lr-scheduler": "inverse_sqrt", "lr": recipe.learning_rate(recipe.warmup_updates),
        "warmup-updates": recipe.warmup_updates, "warmup-init-lr": recipe.learning_rate(1),
        "max-tokens": recipe.batch_tokens, "max-update": trial.all_updates, "num-workers": 0, "seed": recipe.seed,
        "log-format": "none", "train-subset": "train", "valid-subset": "train",
    }  # fmt: skip
    flags = ["--share-all-embeddings", "--cpu", "--no-save", "--disable-validation"]
    return [str(trial.folder), *flags, *(f"--{name}={value}" for name, value in named.items())]


if __name__ == "__main__":
    main()
