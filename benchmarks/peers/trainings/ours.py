"""This project's training, or torch.nn.Transformer in its place, as `benchmarks.training` runs them."""

import transformer  # before torch is loaded: it sets what torch reads only then
from benchmarks.peers.trainings.trial import Clock, Recipe, Trial
from benchmarks.presets import preset_params
from benchmarks.training import configured
from transformer.params import Params, params_from
from transformer.training.loader import Loader
from transformer.training.run import Run

PRESET = "multi30k"


def main(configuration: str | None = None) -> None:
    """Train; `configuration` is one of benchmarks.training's, None what the train stage does."""
    assert transformer
    trial = Trial.asked()
    clock, params = Clock(trial), recipe_params(trial.recipe, trial.precision, trial.all_updates)
    if configuration:
        run = configured(configuration, params, trial.corpus / "tokens")
        assert run is not None
    else:
        run = Run.prepare(params.model, params.training, params.compute, trial.corpus / "tokens")
    parameters = sum(weight.numel() for weight in run.model.parameters())
    with Loader(run, 0, 0) as loader:
        for update in range(1, trial.all_updates + 1):
            _, work = loader.next()
            clock.saw(work.tokens, float(run.update(update, work)))
            clock.updated(parameters)


def recipe_params(recipe: Recipe, precision: str, updates: int) -> Params:
    """The preset with that recipe, on this machine's CPU."""
    content = preset_params(PRESET).model_dump()
    content["model"] |= {
        "d_model": recipe.d_model, "d_ff": recipe.d_ff, "heads": recipe.heads, "encoder_layers": recipe.layers,
        "decoder_layers": recipe.layers, "dropout": recipe.dropout, "norm": "post",
        "max_positions": recipe.max_positions,
    }  # fmt: skip
    content["training"] |= {
        "seed": recipe.seed, "updates": max(updates, recipe.warmup_updates + 1), "precision": precision,
        "batch_target_tokens": recipe.batch_tokens, "label_smoothing": recipe.label_smoothing,
        "adam_beta1": recipe.adam_beta1, "adam_beta2": recipe.adam_beta2, "adam_epsilon": recipe.adam_epsilon,
        "schedule": "inverse_sqrt", "warmup_updates": recipe.warmup_updates,
        "learning_rate_scale": recipe.learning_rate_scale,
    }  # fmt: skip
    content["tokenization"]["vocabulary_size"] = recipe.vocabulary_size
    content["compute"]["device"] = "cpu"
    return params_from(content, f"presets/{PRESET}.yaml")


if __name__ == "__main__":
    main()
