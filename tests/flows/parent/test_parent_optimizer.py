"""Adam's moments of a parent are those with which its own training ended, and no other's."""

from pathlib import Path

import pytest
import torch
from trainings import tiny_tokens, trained

from flows.parent.optimizer import bring_optimizer
from transformer.averaging.average import average
from transformer.errors import DataError
from transformer.params import Params
from transformer.training.parent import read_moments


def with_seed(params: Params, seed: int) -> Params:
    return params.model_copy(update={"training": params.training.model_copy(update={"seed": seed, "updates": 20})})


def test_the_state_of_the_parents_own_training_is_found(tmp_path: Path, tiny_params: Params) -> None:
    tokens = tiny_tokens(tmp_path / "tokens")
    for seed in (1, 2):
        params, folder = with_seed(tiny_params, seed), tmp_path / str(seed)
        checkpoints = trained(folder, tokens, params)
        average(params.averaging, params.decoding, checkpoints, tokens, folder / "model")
        (state,) = (folder / "work").iterdir()
        (tmp_path / "work" / "training").mkdir(parents=True, exist_ok=True)
        state.rename(tmp_path / "work" / "training" / f"state-{seed}")
    for seed in (1, 2):
        brought = tmp_path / f"{seed}.safetensors"
        bring_optimizer("NAME", tmp_path / str(seed) / "model", tmp_path / "work", brought)
        moments, steps = read_moments(brought)
        own, _ = read_moments(tmp_path / "work" / "training" / f"state-{seed}" / "state.safetensors")
        assert steps == 20
        assert all(torch.equal(moments[name], own[name]) for name in own)
    (tmp_path / "work" / "training" / "state-2" / "state.safetensors").unlink()
    with pytest.raises(
        DataError, match=r"start_optimizer = 'taken': no saved state below work/training has the last"
    ):
        bring_optimizer("NAME", tmp_path / "2" / "model", tmp_path / "work", tmp_path / "x")
