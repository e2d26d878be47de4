"""From which state a training goes on: what it then leaves is an uninterrupted training's, or it says what is not."""

import json
import logging
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_inputs import TINY_PARAMS
from trainings import tiny_tokens
from trainings import trained as trained_into

from transformer.errors import InterruptedTrainingError, ParamsError
from transformer.files import files_below
from transformer.params import Params, params_from
from transformer.training.train import Figures
from transformer.working_folder import pin, states_below, write_settings

BASE: dict[str, Any] = {
    "updates": 12,
    "log_every": 2,
    "validate_every": 4,
    "validation_bleu_sentences": 2,
    "checkpoint_every_updates": 3,
    "micro_batch_tokens": 150,
}


def params(model: dict[str, Any] | None = None, **training: Any) -> Params:
    content = {
        **TINY_PARAMS,
        "model": {**TINY_PARAMS["model"], "dropout": 0.2, **(model or {})},
        "training": {**TINY_PARAMS["training"], **BASE, **training},
        "averaging": {**TINY_PARAMS["averaging"], "min_updates_apart": 1},
    }
    return params_from(content, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("tokens"))


Made = dict[str, bytes]


@pytest.fixture(scope="module")
def uninterrupted(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Params], Made]:
    """What an undisturbed training with these params leaves; each is trained once."""
    known: dict[str, Made] = {}

    def train(asked: Params) -> Made:
        key = asked.model_dump_json()
        if key not in known:
            folder = tmp_path_factory.mktemp("whole")
            trained(folder, tokens, asked)
            known[key] = made(folder)
        return known[key]

    return train


def trained(folder: Path, tokens: Path, asked: Params, on_figures: Any = lambda figures: None) -> None:
    """Train; as before a stage of DVC, no output of the last training is there."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    trained_into(folder, tokens, asked, on_figures)


def made(folder: Path) -> Made:
    """All that a training leaves."""
    roots = (folder / "checkpoints", folder / "curves", folder / "training.json")
    files = [path for root in roots for path in (files_below(root) if root.is_dir() else [root])]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def interrupted(folder: Path, tokens: Path, asked: Params, at: int) -> None:
    def stop(figures: Figures) -> None:
        if figures.update == at:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError):
        trained(folder, tokens, asked, stop)


def seen(folder: Path, tokens: Path, asked: Params) -> list[int]:
    """Train on; the updates whose figures came."""
    updates: list[int] = []
    trained(folder, tokens, asked, lambda figures: updates.append(figures.update))
    return updates


def test_other_runs_in_between_cost_no_state(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made]
) -> None:
    interrupted(tmp_path, tokens, params(), at=6)
    for seed in (2, 3, 4, 5):
        trained(tmp_path, tokens, params(seed=seed, updates=3))
    assert seen(tmp_path, tokens, params())[0] == 8
    assert made(tmp_path) == uninterrupted(params())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"log_every": 3}, "training.log_every 2 → 3"),
        ({"validate_every": 8}, "training.validate_every 4 → 8"),
        ({"validate_every": 6}, "training.validate_every 4 → 6"),  # 6 is the update of the state
        ({"validation_bleu_sentences": 0}, "training.validation_bleu_sentences 2 → 0"),
        ({"checkpoint_every_updates": 6, "keep_last": 2}, "training.keep_last 3 → 2"),
        ({"keep_last": 4}, "training.keep_last 3 → 4"),
        ({"early_stopping_patience": 9}, "training.early_stopping_patience null → 9"),
        ({"updates": 10}, "training.updates 12 → 10"),
        ({"updates": 15}, "training.updates 12 → 15"),
        ({"precision": "auto"}, None),
    ],
    ids=str,
)
def test_params_that_change_no_update_go_on_and_leave_what_an_uninterrupted_training_does(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made], change: dict[str, Any], told: str | None,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    caplog.set_level(logging.INFO)
    interrupted(tmp_path, tokens, params(), at=6)
    updates = seen(tmp_path, tokens, params(**change))
    if told is None:  # on a CPU with bf16, `auto` is another precision
        told = "training.precision fp32 → auto"
    if "going on" in caplog.text:
        assert min(updates) >= 6
        assert told in caplog.text
        assert "warning" not in caplog.text
    else:
        assert "not resumed: resolved_precision float32 → bfloat16" in caplog.text
    assert made(tmp_path) == uninterrupted(params(**change))
    assert len(list((tmp_path / "work").iterdir())) == 1 + ("not resumed" in caplog.text)


def test_a_pinned_state_stays_where_another_training_goes_on_from_it(tmp_path: Path, tokens: Path) -> None:
    interrupted(tmp_path, tokens, params(), at=6)
    (waiting,) = (tmp_path / "work").iterdir()
    pin(waiting)
    before = (waiting / "state.safetensors").read_bytes()
    assert min(seen(tmp_path, tokens, params(validate_every=8))) > 6
    assert (waiting / "state.safetensors").read_bytes() == before
    assert min(seen(tmp_path, tokens, params())) > 6


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"validate_every": 1}, "validation.csv lacks updates 1, 2, 3, 5"),
        ({"validation_bleu_sentences": 3}, "validation.csv has no BLEU of update 4"),
        ({"keep_last": 9, "checkpoint_every_updates": 2}, "models/checkpoints lacks update 2"),
    ],
    ids=str,
)
def test_what_can_not_be_made_up_for_is_named_and_the_rest_is_the_same(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made], change: dict[str, Any], lacking: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    interrupted(tmp_path, tokens, params(), at=6)
    trained(tmp_path, tokens, params(**change))
    assert (
        f"not as in an uninterrupted training with these params: {lacking}. To train anew: python -m" in caplog.text
    )
    found, whole = made(tmp_path), uninterrupted(params(**change))
    assert found["curves/training.csv"] == whole["curves/training.csv"]
    assert found["curves/validation.csv"].splitlines()[-1] == whole["curves/validation.csv"].splitlines()[-1]
    for name in found.keys() & whole.keys():
        if name.endswith(".safetensors"):
            assert found[name] == whole[name]
    assert json.loads(found["training.json"])["differs"] == [lacking]


@pytest.mark.parametrize(("first", "then"), [(12, 18), (10, 17), (11, 13)])
def test_a_finished_training_is_made_longer_to_the_byte(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made], first: int, then: int
) -> None:
    """Also where the first end was on no grid: its validation and checkpoint are none of the longer training's."""
    trained(tmp_path, tokens, params(updates=first))
    updates = seen(tmp_path, tokens, params(updates=then))
    assert min(updates) > first
    assert made(tmp_path) == uninterrupted(params(updates=then))
    assert seen(tmp_path, tokens, params(updates=first)) == []  # the shorter one is still there
    assert made(tmp_path) == uninterrupted(params(updates=first))


def test_an_early_stop_goes_on_with_more_patience(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made]
) -> None:
    wild = {"updates": 30, "validate_every": 2, "learning_rate_scale": 30.0, "validation_bleu_sentences": 0}
    impatient, patient = params(**wild, early_stopping_patience=1), params(**wild, early_stopping_patience=50)
    trained(tmp_path, tokens, impatient)
    stopped = json.loads((tmp_path / "training.json").read_text())["updates"]
    assert stopped < 30
    assert min(seen(tmp_path, tokens, patient)) > stopped
    # Of the checkpoints before, only what the impatient one kept is there; with keep_last 3 that is all.
    assert made(tmp_path) == uninterrupted(patient)


LINEAR = {"schedule": "linear", "warmup_updates": 3}


def test_a_linear_training_is_not_made_longer_without_a_word(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made]
) -> None:
    trained(tmp_path, tokens, params(**LINEAR))
    message = (
        r"training.updates 12 → 18: .* can't be made longer .*training\.rewarm_after: 12 goes on .* 0 trains anew"
    )
    with pytest.raises(ParamsError, match=message):
        trained(tmp_path, tokens, params(**LINEAR, updates=18))
    rewarmed = params(**LINEAR, updates=18, rewarm_after=12)
    assert min(seen(tmp_path, tokens, rewarmed)) > 12
    assert made(tmp_path) == uninterrupted(rewarmed)
    anew = params(**LINEAR, updates=18, rewarm_after=0)
    assert min(seen(tmp_path, tokens, anew)) == 2
    assert made(tmp_path) == uninterrupted(anew)


def test_a_rewarmed_schedule_begins_anew_after_the_first_has_ended() -> None:
    from transformer.training.schedule import learning_rate

    whole = params(**LINEAR, updates=18, rewarm_after=12).training
    first, second = params(**LINEAR).training, params(**LINEAR, updates=6).training
    expected = [learning_rate(update, 32, first) for update in range(1, 13)]
    expected += [learning_rate(update, 32, second) for update in range(1, 7)]
    assert [learning_rate(update, 32, whole) for update in range(1, 19)] == expected


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 2}, "not resumed: training.seed 1 → 2 (the state "),
        ({"label_smoothing": 0.2}, "not resumed: training.label_smoothing 0.1 → 0.2 (the state "),
        ({"model": {"dropout": 0.3}}, "not resumed: model.dropout 0.2 → 0.3 (the state "),
        ({"updates": 5}, "not resumed: training.updates 12 → 5 (the state "),
        ({"schedule": "linear", "warmup_updates": 3}, "training.schedule inverse_sqrt → linear"),
        ({"seed": 2, "label_smoothing": 0.2, "adam_beta1": 0.8, "batch_target_tokens": 100}, None),
    ],
    ids=str,
)
def test_a_training_says_why_it_does_not_go_on(
    tmp_path: Path, tokens: Path, change: dict[str, Any], told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    interrupted(tmp_path, tokens, params(), at=6)
    trained(tmp_path, tokens, params(**change))
    lines = [record.getMessage() for record in caplog.records if "not resumed" in record.getMessage()]
    assert [told in line for line in lines] == [True] if told else not lines
    assert "resuming" not in caplog.text
    assert len(list((tmp_path / "work").iterdir())) == 2


def test_other_data_code_and_torch_are_named(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    interrupted(tmp_path, tokens, params(), at=6)
    (state,) = states_below(tmp_path / "work")
    settings = state.settings | {"torch": "2.12.0"}
    settings["code"]["training/run.py"] = settings["data"]["train.target.ids.npy"] = "0" * 64
    write_settings(state.folder, settings)
    trained(tmp_path, tokens, params(updates=13))
    assert "torch 2.12.0 → " in caplog.text
    assert "code has changed (training/run.py)" in caplog.text
    assert "data has changed (train.target.ids.npy)" in caplog.text


def test_a_state_whose_settings_are_damaged_is_not_taken_for_one_of_these_params(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, tokens, params(seed=3), at=6)
    (path,) = (tmp_path / "work").glob("*/settings.json")
    path.write_text(path.read_text().replace('"seed": 3', f'"seed": {params().training.seed}'))
    wanted = params(log_every=1)  # a change that goes on from a state of the same seed
    assert min(seen(tmp_path, tokens, wanted)) == 1
    assert made(tmp_path) == uninterrupted(wanted)
    assert f"{path} is damaged" in caplog.text
    # With the very params it goes on.
    assert min(seen(tmp_path, tokens, params(seed=3))) > 6


def test_a_smaller_micro_batch_goes_on_and_says_what_that_changes(
    tmp_path: Path, tokens: Path, uninterrupted: Callable[[Params], Made], caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(tmp_path, tokens, params(), at=6)
    smaller = params(micro_batch_tokens=100)
    assert min(seen(tmp_path, tokens, smaller)) > 6
    lacking = "micro_batch_tokens 150 → 100: the updates to 6 drew other masks of dropout and rounded sums otherwise"
    assert lacking in caplog.text
    assert json.loads((tmp_path / "training.json").read_text())["differs"] == [lacking]
    # The state of the larger one is still there, and ends as if nothing had happened.
    assert min(seen(tmp_path, tokens, params())) > 6
    assert made(tmp_path) == uninterrupted(params())
    # And a training that has ended is not passed off as one of other params.
    assert min(seen(tmp_path, tokens, params(micro_batch_tokens=120))) == 2


GRIDS = st.fixed_dictionaries(
    {},
    optional={
        "log_every": st.integers(1, 5),
        "validate_every": st.integers(1, 6),
        "validation_bleu_sentences": st.sampled_from([0, 2]),
        "checkpoint_every_updates": st.integers(1, 6),
        "keep_last": st.integers(2, 4),
        "early_stopping_patience": st.sampled_from([None, 1, 3]),
        "updates": st.integers(6, 14),
    },
)


@pytest.mark.slow
@given(st.lists(GRIDS, min_size=1, max_size=3), st.integers(2, 8))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_whatever_changes_meanwhile_the_end_is_an_uninterrupted_trainings_or_says_otherwise(
    tokens: Path, uninterrupted: Callable[[Params], Made], tmp_path_factory: pytest.TempPathFactory,
    changes: list[dict[str, Any]], at: int,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("changed")
    for number, change in enumerate([{}, *changes]):

        def stop(figures: Figures, last: int = at + number) -> None:
            if figures.update >= last:
                signal.raise_signal(signal.SIGTERM)

        try:
            trained(folder, tokens, params(**change), stop if number < len(changes) else lambda figures: None)
        except InterruptedTrainingError:
            continue
    found, whole = made(folder), uninterrupted(params(**changes[-1]))
    if "differs" not in json.loads(found["training.json"]):
        assert found == whole
    early = "early_stopping_patience" in found["training.json"].decode()
    for name in found.keys() & whole.keys():
        if name.endswith(".safetensors"):
            assert found[name] == whole[name]
    assert early or found["curves/training.csv"] == whole["curves/training.csv"]
