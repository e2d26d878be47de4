"""What a retraining starts from: the params that come of it, and what is said where there is no champion."""

from pathlib import Path

import pytest
from retrainings import Retrainings
from tiny_inputs import CHECKOUT

from flows.retraining.overrides import overridden
from flows.retraining.start import with_start
from transformer.errors import ParamsError
from transformer.params import Params, parse_params

TEXT = (CHECKOUT / "params.yaml").read_text(encoding="utf-8")
WARM = overridden(TEXT, "p", {"training.start_from": "v1", "preparation.mix": 0.5, "tokenization.new_pieces": 9})[0]


@pytest.fixture
def registry(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Retrainings:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Retrainings(tmp_path, empty_store)


def params_after(text: str, changes: dict[str, object]) -> Params:
    return overridden(text, "p", changes)[1]


def test_the_champion_is_named_by_its_number_as_the_alias_moves(registry: Retrainings) -> None:
    first, second = registry.candidate(1), registry.candidate(2)
    registry.registry.set_champion(second.version)
    changes = with_start("champion", {"preparation.mix": 0.25}, parse_params(TEXT, "p"))
    registry.registry.set_champion(first.version)
    found = params_after(TEXT, changes)
    assert found.training.start_from == "transformer-en-de/2"
    assert found.preparation.mix == 0.25


def test_without_a_champion_it_is_one_line(registry: Retrainings) -> None:
    with pytest.raises(ParamsError, match=r"start = champion: transformer-en-de has no champion at .*; retrain with"):
        with_start("champion", {}, parse_params(TEXT, "p"))


def test_scratch_takes_everything_back_that_is_about_a_parent() -> None:
    found = params_after(WARM, with_start("scratch", {}, parse_params(WARM, "p")))
    assert found == parse_params(TEXT, "p")


def test_without_start_the_params_decide_and_two_parents_are_one_too_many() -> None:
    assert with_start(None, {"training.seed": 2}, parse_params(WARM, "p")) == {"training.seed": 2}
    with pytest.raises(
        ParamsError, match=r"start = scratch: overrides name another parent, training.start_from = v2"
    ):
        with_start("scratch", {"training.start_from": "v2"}, parse_params(TEXT, "p"))
