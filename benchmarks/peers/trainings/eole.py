"""Eole's own training of a config, its batches counted where it computes their loss.

Its own: pre-norm (its decoder knows no other); a batch has as many padded tokens of its longer side as the limit; no
source stands twice in a batch; dropout inside of the feed-forward network too; gradients are scaled, and clipped at a
norm of 5; the loss is divided by the target tokens less one a sentence.
"""

from typing import Any

from eole.bin.run.train import train
from eole.config.run import TrainConfig
from eole.trainer import BatchProcessor

from benchmarks.peers.trainings.trial import Clock, Trial

NEVER = 1_000_000


def main() -> None:
    """Train."""
    trial = Trial.asked()
    clock = Clock(trial)
    clock.watch_optimizers()
    compute = BatchProcessor.process_batch

    def counted(self: Any, batch: Any, normalization: int, count: int, total: Any, report: Any) -> bool:
        tokens, loss = total.n_tokens, total.loss
        done = compute(self, batch, normalization, count, total, report)
        clock.saw(total.n_tokens - tokens, float(total.loss - loss))
        return done

    BatchProcessor.process_batch = counted
    train(TrainConfig(**configuration(trial)))


def configuration(trial: Trial) -> dict[str, Any]:
    """What a config file of Eole would say."""
    recipe = trial.recipe
    sentences = len(trial.pieces("source").read_text(encoding="utf-8").splitlines())
    layers = {"layers": recipe.layers}
    return {
        "seed": recipe.seed, "share_vocab": True, "src_vocab": str(trial.vocabulary),
        "tgt_vocab": str(trial.vocabulary), "overwrite": True, "transforms": [], "report_every": NEVER,
        "data": {"train": {"path_src": str(trial.pieces("source")), "path_tgt": str(trial.pieces("target"))}},
        "model": {
            "architecture": "transformer", "hidden_size": recipe.d_model, "transformer_ff": recipe.d_ff,
            "heads": recipe.heads, "share_embeddings": True, "share_decoder_embeddings": True,
            "add_qkvbias": True, "add_ffnbias": True, "generator_bias": False,
            "embeddings": {
                "word_vec_size": recipe.d_model, "position_encoding": True,
                "position_encoding_type": "SinusoidalInterleaved",
            },
            "encoder": {"encoder_type": "transformer", **layers},
            "decoder": {"decoder_type": "transformer", **layers},
        },
        "training": {
            "compute_dtype": trial.precision, "model_path": str(trial.folder / "model"),
            "param_init_method": "xavier_uniform", "optim": "adam", "adam_beta1": recipe.adam_beta1,
            "adam_beta2": recipe.adam_beta2, "adam_eps": recipe.adam_epsilon, "decay_method": "noam",
            "learning_rate": recipe.learning_rate_scale, "warmup_steps": recipe.warmup_updates,
            "dropout": [recipe.dropout], "attention_dropout": [0.0], "label_smoothing": recipe.label_smoothing,
            "batch_type": "tokens", "batch_size": recipe.batch_tokens, "normalization": "tokens",
            "bucket_size": sentences, "num_workers": 0, "log_attention_entropy": False,
            "train_steps": trial.all_updates, "valid_steps": NEVER, "save_checkpoint_steps": NEVER,
        },
    }  # fmt: skip


if __name__ == "__main__":
    main()
