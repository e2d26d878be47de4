"""A wrong byte in what a training saved is found before it is used, named, and changes no result."""

import json
import logging
import signal
from pathlib import Path

import pytest
from tiny_inputs import TINY_PARAMS
from trainings import tiny_tokens, trained

from transformer.errors import InterruptedTrainingError
from transformer.files import files_below
from transformer.params import Params, params_from
from transformer.training.train import Figures

PARAMS = params_from(
    {
        **TINY_PARAMS,
        "training": {**TINY_PARAMS["training"], "updates": 30, "validate_every": 10, "checkpoint_every_updates": 5},
        "model": {**TINY_PARAMS["model"], "dropout": 0.1},
    },
    "tiny",
)


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("tokens"))


@pytest.fixture(scope="module")
def whole(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The checkpoints of an undisturbed training."""
    return contents(trained(tmp_path_factory.mktemp("whole"), tokens, PARAMS))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files_below(folder)}


def interrupted(folder: Path, tokens: Path, params: Params = PARAMS) -> Path:
    """Train until update 20 and stop; returns the working folder."""

    def stop(figures: Figures) -> None:
        if figures.update == 20:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError):
        trained(folder, tokens, params, stop)
    (work,) = (folder / "work").iterdir()
    return work


def flip(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(place * (len(content) - 1))] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("place", [0.0, 0.001, 0.01, 0.3, 0.7, 1.0])
def test_a_flipped_byte_of_the_state_is_named_and_the_one_before_it_taken(
    tmp_path: Path, tokens: Path, whole: dict[str, bytes], place: float, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    work = interrupted(tmp_path, tokens)
    flip(work / "state.safetensors", place)
    assert contents(trained(tmp_path, tokens, PARAMS)) == whole
    assert "state.safetensors is damaged" in caplog.text
    assert "resuming after update" in caplog.text  # not from the beginning
    assert (work / "damaged-state.safetensors").exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 100, None])
def test_any_other_damage_to_the_state_too(
    tmp_path: Path, tokens: Path, whole: dict[str, bytes], content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path = interrupted(tmp_path, tokens) / "state.safetensors"
    path.write_bytes(path.read_bytes()[:-1000] if content is None else content)
    assert contents(trained(tmp_path, tokens, PARAMS)) == whole
    assert f"{path} is damaged" in caplog.text


def test_with_both_states_damaged_training_begins_again(
    tmp_path: Path, tokens: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    work = interrupted(tmp_path, tokens)
    for path in work.glob("state*.safetensors"):
        flip(path, 0.5)
    assert contents(trained(tmp_path, tokens, PARAMS)) == whole
    assert caplog.text.count("is damaged") == 2
    assert "resuming" not in caplog.text


def test_a_damaged_checkpoint_never_reaches_the_outputs(
    tmp_path: Path, tokens: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The newest is written again from the state, an older one that later ones replace is not missed."""
    work = interrupted(tmp_path, tokens)
    for path in sorted((work / "checkpoints").glob("update-*.safetensors")):
        if path.name != "update-00000010.safetensors":  # kept only if it is the best
            flip(path, 0.8)
    assert contents(trained(tmp_path, tokens, PARAMS)) == whole
    assert caplog.text.count("is damaged") == 2  # those of updates 15 and 20
    assert "differs" not in json.loads((tmp_path / "training.json").read_text())


def test_a_finished_training_gives_no_damaged_checkpoint_away(
    tmp_path: Path, tokens: Path, whole: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = trained(tmp_path, tokens, PARAMS)
    (work,) = (tmp_path / "work").iterdir()
    last = json.loads(whole["index.json"])["last"]
    flip(work / "checkpoints" / last, 0.8)
    for path in checkpoints.iterdir():
        path.unlink()
    assert contents(trained(tmp_path, tokens, PARAMS)) == whole
    assert f"{last} is damaged" in caplog.text


def test_a_damaged_checkpoint_that_would_be_kept_is_told_in_the_report(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its weights are nowhere else, so that one before it is kept in its place: the log and the report say so."""
    params = params_from(PARAMS.model_dump() | {"training": PARAMS.training.model_dump() | {"keep_last": 4}}, "tiny")
    work = interrupted(tmp_path, tokens, params)
    flip(work / "checkpoints" / "update-00000015.safetensors", 0.8)
    kept = trained(tmp_path, tokens, params)
    assert [path.name for path in sorted(kept.glob("*.safetensors"))] == [
        f"update-000000{update}.safetensors" for update in (10, 20, 25, 30)
    ]
    told = "update-00000015.safetensors was damaged and is missing"
    assert json.loads((tmp_path / "training.json").read_text())["differs"] == [told]
    assert f"warning: not as in a training without damage: {told}" in caplog.text
