"""JoeyNMT's own training of a config file, its batches counted where it computes their loss.

Its own: sentences of any length share a batch, which ends when its padded tokens reach the limit; dropout on
attention weights and inside of the feed-forward network too; Adam's epsilon 1e-8.
"""

import json
import math
from typing import Any

from joeynmt.training import TrainManager, train

from benchmarks.peers.trainings.trial import Clock, Recipe, Trial

NEVER = 1_000_000


def main() -> None:
    """Train."""
    trial = Trial.asked()
    clock = Clock(trial)
    clock.watch_optimizers()
    entropy, compute = target_entropy(trial.recipe), TrainManager._train_step

    def counted(manager: TrainManager, batch: Any) -> tuple[float, int]:
        loss, correct = compute(manager, batch)
        clock.saw(batch.ntokens, (loss + entropy) * batch.ntokens)
        return loss, correct

    TrainManager._train_step = counted
    (trial.folder / "model").mkdir()
    config = configuration(trial)
    (trial.folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    train(rank=0, world_size=None, cfg=config, skip_test=True)


def target_entropy(recipe: Recipe) -> float:
    """Of the smoothed targets: its loss is their divergence from the model, which is the cross-entropy less this."""
    other = recipe.label_smoothing / (recipe.vocabulary_size - 2)
    right = 1 - recipe.label_smoothing
    return -right * math.log(right) - recipe.label_smoothing * math.log(other)


def configuration(trial: Trial) -> dict[str, Any]:
    """What a config file of JoeyNMT would say."""
    recipe = trial.recipe
    side = {"level": "word", "max_length": recipe.max_positions, "voc_file": str(trial.vocabulary)}
    layers = {
        "type": "transformer", "num_layers": recipe.layers, "num_heads": recipe.heads, "dropout": recipe.dropout,
        "embeddings": {"embedding_dim": recipe.d_model, "scale": True, "dropout": recipe.dropout},
        "hidden_size": recipe.d_model, "ff_size": recipe.d_ff, "layer_norm": "post",
    }  # fmt: skip
    return {
        "name": "trial", "model_dir": str(trial.folder / "model"), "use_cuda": False, "random_seed": recipe.seed,
        "data": {
            "train": str(trial.corpus / "pieces" / "train"), "dev": str(trial.corpus / "pieces" / "train"),
            "dataset_type": "plain", "src": {"lang": "source", **side}, "trg": {"lang": "target", **side},
        },
        "testing": {},
        "training": {
            "optimizer": "adam", "adam_betas": [recipe.adam_beta1, recipe.adam_beta2], "learning_rate_min": 0,
            "scheduling": "noam", "learning_rate_factor": recipe.learning_rate_scale,
            "learning_rate_warmup": recipe.warmup_updates, "normalization": "tokens",
            "label_smoothing": recipe.label_smoothing, "batch_type": "token", "batch_size": recipe.batch_tokens,
            "updates": trial.all_updates, "epochs": NEVER, "logging_freq": NEVER, "validation_freq": NEVER,
        },
        "model": {"tied_embeddings": True, "tied_softmax": True, "encoder": layers, "decoder": layers},
    }  # fmt: skip


if __name__ == "__main__":
    main()
