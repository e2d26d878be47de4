"""A training that starts from the weights of another: what it takes over, what it refuses, and exact resume."""

import json
import shutil
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from corpora import write_corpus, write_tokens
from tiny_inputs import TINY_PARAMS, synthetic_pairs
from trainings import sections, tiny_tokens

from transformer.averaging.average import average
from transformer.errors import DataError, DivergedError, InterruptedTrainingError, ParamsError
from transformer.files import sha256_of, write_json
from transformer.model.checkpoints import read_weights, write_tensors
from transformer.params import Params, TokenizationParams, params_from
from transformer.parent_folder import OPTIMIZER_FILE
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary
from transformer.training.parent import EMBEDDING, Parent, read_moments
from transformer.training.resume import STATE_FILE
from transformer.training.run import Run
from transformer.training.train import Figures, train


def params(model: dict[str, Any] | None = None, **training: Any) -> Params:
    changed = {
        "model": {**TINY_PARAMS["model"], **(model or {})},
        "training": {**TINY_PARAMS["training"], **training},
    }
    return params_from({**TINY_PARAMS, **changed}, "test")


WARM = {"start_from": "old/model", "updates": 12, "warmup_updates": 4, "checkpoint_every_updates": 6, "seed": 2}


def run(folder: Path, tokens: Path, asked: Params, parent: Path | None = None, stop_at: int | None = None) -> Path:
    def watched(figures: Figures) -> None:
        if figures.update == stop_at:
            raise InterruptedTrainingError("power cut")

    train(
        *sections(asked), tokens=tokens, work=folder / "work", checkpoints=folder / "checkpoints",
        report=folder / "training.json", curves=folder / "curves", on_figures=watched, parent=parent,
    )  # fmt: skip
    return folder / "checkpoints"


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("old"))


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory, tokens: Path) -> Path:
    """The folder of a parent as the stage of that name leaves it, its optimizer included."""
    folder = tmp_path_factory.mktemp("trained")
    checkpoints = run(folder, tokens, params())
    average(params().averaging, params().decoding, checkpoints, tokens, folder / "parent" / "model")
    write_json(folder / "parent" / "parent.json", {"start_from": "old/model", "resolved": "old/model"})
    (state,) = (folder / "work").glob(f"*/{STATE_FILE}")
    shutil.copy(state, folder / "parent" / OPTIMIZER_FILE)
    return folder / "parent"


def without_optimizer(parent: Path, folder: Path) -> Path:
    return Path(shutil.copytree(parent, folder, ignore=shutil.ignore_patterns(OPTIMIZER_FILE)))


def test_the_first_update_sees_the_weights_of_the_parent(tmp_path: Path, tokens: Path, parent: Path) -> None:
    asked = params(**WARM)
    prepared = Run.prepare(asked.model, asked.training, asked.compute, tokens)
    found = Parent.open(parent)
    assert found
    found.put_into(prepared.model, prepared.vocabulary, prepared.optimizer)
    expected = read_weights(parent / "model" / "model.safetensors")
    assert all(torch.equal(tensor, expected[name]) for name, tensor in prepared.model.state_dict().items())
    cold, warm = run(tmp_path / "cold", tokens, params()), run(tmp_path / "warm", tokens, asked, parent)
    curves = [(folder.parent / "curves" / "training.csv").read_text().splitlines() for folder in (cold, warm)]
    losses = [float(curve[1].split(",")[1]) for curve in curves]
    assert losses[1] < losses[0] - 1


def test_adam_goes_on_where_it_stood_as_plain_torch_does(tmp_path: Path, tokens: Path, parent: Path) -> None:
    """The same update by torch's own Adam, which was given the moments and the step of the parent's state."""
    asked = params(**WARM)
    prepared = Run.prepare(asked.model, asked.training, asked.compute, tokens)
    found = Parent.open(parent)
    assert found
    steps = found.put_into(prepared.model, prepared.vocabulary, prepared.optimizer)
    moments, _ = read_moments(parent / OPTIMIZER_FILE)
    assert steps == 40
    twin = {name: value.detach().clone() for name, value in prepared.model.named_parameters()}
    work = prepared.work(prepared.plan(0)[0])
    prepared.update(1, work)
    again = Run.prepare(asked.model, asked.training, asked.compute, tokens)
    again.model.load_state_dict(twin)
    gradients: dict[str, torch.Tensor] = {}
    names = {id(value): name for name, value in again.model.named_parameters()}
    again.optimizer.register_step_pre_hook(
        lambda one, *_: gradients.update(
            {names[id(value)]: value.grad.clone() for group in one.param_groups for value in group["params"]}
        )
    )
    again.update(1, work)
    rate = prepared.learning_rate(1)
    for name, value in prepared.model.named_parameters():
        mean = 0.9 * moments[f"exp_avg.{name}"] + 0.1 * gradients[name]
        square = 0.98 * moments[f"exp_avg_sq.{name}"] + 0.02 * gradients[name] ** 2
        expected = twin[name] - rate * (mean / (1 - 0.9**41)) / ((square / (1 - 0.98**41)).sqrt() + 1e-9)
        torch.testing.assert_close(value.detach(), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("taken", [False, True])
def test_an_interrupted_warm_start_ends_with_the_same_bytes(
    tmp_path: Path, tokens: Path, parent: Path, taken: bool
) -> None:
    folder = parent if taken else without_optimizer(parent, tmp_path / "parent")
    whole = run(tmp_path / "whole", tokens, params(**WARM), folder)
    with pytest.raises(InterruptedTrainingError):
        run(tmp_path / "cut", tokens, params(**WARM), folder, stop_at=10)
    assert sha256_of(run(tmp_path / "cut", tokens, params(**WARM), folder)) == sha256_of(whole)


def test_another_parent_is_another_training_and_another_name_is_none(
    tmp_path: Path, tokens: Path, parent: Path
) -> None:
    run(tmp_path, tokens, params(**WARM), parent)
    assert len(list((tmp_path / "work").iterdir())) == 1
    run(tmp_path, tokens, params(**{**WARM, "start_from": "transformer-en-de/3"}), parent)
    assert len(list((tmp_path / "work").iterdir())) == 1
    run(tmp_path, tokens, params(**WARM), without_optimizer(parent, tmp_path / "fresh"))
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_new_pieces_begin_as_the_mean_of_what_they_are_made_of(tmp_path: Path, tokens: Path, parent: Path) -> None:
    pairs = [(source.replace("cat", "catamaran"), target) for source, target in synthetic_pairs(260, seed=5)]
    splits = {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}
    settings = {**TINY_PARAMS["tokenization"], "new_pieces": 5}
    given = parent / "model" / VOCABULARY_FILE
    larger = write_tokens(tmp_path / "new", splits, TokenizationParams(**settings), given)
    old, new = Vocabulary.load(given), Vocabulary.load(larger / VOCABULARY_FILE)
    assert new.size == old.size + 5
    assert new.pieces(list(range(old.size))) == old.pieces(list(range(old.size)))
    asked = params(**WARM)
    prepared = Run.prepare(asked.model, asked.training, asked.compute, larger)
    found = Parent.open(parent)
    assert found
    found.put_into(prepared.model, prepared.vocabulary, prepared.optimizer)
    rows = read_weights(parent / "model" / "model.safetensors")[EMBEDDING]
    assert torch.equal(prepared.model.embedding.weight[: old.size], rows)
    for place, piece in enumerate(new.pieces(list(range(old.size, new.size))), old.size):
        parts = [id_ for id_ in old.encode(piece.replace("▁", " ").strip()) if old.pieces([id_]) != ["▁"]]
        if piece.startswith("▁"):  # only at the beginning of a word does the whole encoder split as within a text
            torch.testing.assert_close(prepared.model.embedding.weight[place], rows[parts].mean(dim=0))
    moments = prepared.optimizer.state[prepared.model.embedding.weight]["exp_avg"]
    assert torch.equal(moments[old.size :], torch.zeros_like(moments[old.size :]))
    run(tmp_path / "trained", larger, asked, parent)


def test_another_network_is_one_line(tmp_path: Path, tokens: Path, parent: Path) -> None:
    with pytest.raises(ParamsError) as told:
        run(tmp_path, tokens, params({"d_model": 64, "norm": "pre"}, **WARM), parent)
    assert str(told.value) == (
        "training.start_from: old/model is another network (model.d_model = 64, there 32; model.norm = pre, there "
        "post): take over its values, or set start_from to null"
    )
    run(tmp_path, tokens, params({"dropout": 0.3, "max_positions": 128}, **WARM), parent)


def test_tokens_of_another_vocabulary_are_one_line(tmp_path: Path, parent: Path) -> None:
    pairs = synthetic_pairs(260, seed=5)
    other = TokenizationParams(**{**TINY_PARAMS["tokenization"], "vocabulary_size": 390})
    tokens = write_tokens(tmp_path, {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}, other)
    with pytest.raises(DataError, match="the tokens were not encoded with the vocabulary of old/model: dvc repro"):
        run(tmp_path, tokens, params(**WARM), parent)


def test_a_parent_that_is_missing_or_damaged_is_one_line(tmp_path: Path, tokens: Path, parent: Path) -> None:
    with pytest.raises(DataError, match=r"start_from = 'old/model': .* holds no model: dvc repro --force parent"):
        run(tmp_path, tokens, params(**WARM), tmp_path / "nothing")
    damaged = without_optimizer(parent, tmp_path / "parent")
    (damaged / "model" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match=r"model\.safetensors is damaged"):
        run(tmp_path, tokens, params(**WARM), damaged)
    (damaged / "parent.json").unlink()
    shutil.copy(parent / "model" / "model.safetensors", damaged / "model")
    with pytest.raises(DataError, match=r"parent\.json is missing or damaged"):
        run(tmp_path, tokens, params(**WARM), damaged)


def test_checkpoints_and_model_name_the_parent(tmp_path: Path, tokens: Path, parent: Path) -> None:
    checkpoints = run(tmp_path, tokens, params(**WARM), parent)
    named = {"name": "old/model", "sha256": sha256_of(parent / "model")}
    assert json.loads((checkpoints / "parent.json").read_text()) == named
    average(params().averaging, params().decoding, checkpoints, tokens, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "averaged.json").read_text())["parent"] == named
    card = (tmp_path / "model" / "model_card.md").read_text()
    assert f"| training started from | old/model, sha256 `{named['sha256']}` |" in card


def reversed_pairs(count: int) -> list[tuple[str, str]]:
    """The same sources with another language's order of words: whoever learns it forgets the first one."""
    return [(source, " ".join(reversed(target.split()))) for source, target in synthetic_pairs(count, seed=5)]


def forgetful(tmp_path: Path, parent: Path) -> Path:
    """Tokens of a new corpus beside the validation set of the parent's."""
    pairs, old = reversed_pairs(260), synthetic_pairs(230)[200:]
    write_corpus(tmp_path / "old", {"valid": old})
    splits = {"train": pairs[:200], "valid": pairs[200:230], "test": pairs[230:]}
    given, settings = parent / "model" / VOCABULARY_FILE, TokenizationParams(**TINY_PARAMS["tokenization"])
    return write_tokens(tmp_path / "new", splits, settings, given, old_valid=tmp_path / "old" / "valid.parquet")


LEARNING = {**WARM, "updates": 120, "warmup_updates": 60, "validate_every": 10, "checkpoint_every_updates": 5}


def old_losses(folder: Path) -> list[float]:
    return pandas.read_csv(folder / "curves" / "validation.csv")["old_loss"].tolist()


def test_a_training_that_forgets_stops_and_keeps_what_does_not(tmp_path: Path, tokens: Path, parent: Path) -> None:
    new = forgetful(tmp_path, parent)
    fresh = without_optimizer(parent, tmp_path / "parent")
    free = run(tmp_path / "free", new, params(**LEARNING, keep_last=30), fresh)
    losses = old_losses(tmp_path / "free")
    own = Run.prepare(params().model, params().training, params().compute, new)
    found = Parent.open(fresh)
    assert found
    found.put_into(own.model, own.vocabulary, own.optimizer)
    first = own.loss_on_old()
    limit = losses[4] - first  # at update 50; at update 60 it is above that
    assert losses[:6] == sorted(losses[:6])
    assert limit > 0.05
    guarded = run(tmp_path / "guarded", new, params(**LEARNING, keep_last=30, forgetting_limit=limit + 1e-4), fresh)
    assert old_losses(tmp_path / "guarded") == losses[:6]
    names = {path.name for path in guarded.glob("update-*")}
    assert names == {f"update-{update:08d}.safetensors" for update in range(5, 51, 5)}
    assert all(sha256_of(guarded / name) == sha256_of(free / name) for name in names)
    assert run(tmp_path / "guarded", new, params(**LEARNING, keep_last=30, forgetting_limit=limit + 1e-4), fresh)
    with pytest.raises(DivergedError, match=r"early stop: .*forgetting_limit = .*, and no earlier checkpoint was"):
        run(tmp_path / "strict", new, params(**LEARNING, forgetting_limit=1e-6), fresh)


def test_the_loss_on_the_old_set_is_that_of_the_parents_own_training(
    tmp_path: Path, tokens: Path, parent: Path
) -> None:
    """Which validated its last checkpoint on the same sentences."""
    checkpoints = parent.parent / "checkpoints"
    index = json.loads((checkpoints / "index.json").read_text())["checkpoints"][-1]
    last = Path(shutil.copytree(parent, tmp_path / "parent"))
    weights = read_weights(checkpoints / index["file"])
    write_tensors(last / "model" / "model.safetensors", weights)
    (last / "model" / "averaged.json").unlink()
    found = Parent.open(last)
    own = Run.prepare(params().model, params().training, params().compute, forgetful(tmp_path, parent))
    assert found
    found.put_into(own.model, own.vocabulary, own.optimizer)
    assert own.loss_on_old() == pytest.approx(index["valid_loss"], rel=1e-5)
