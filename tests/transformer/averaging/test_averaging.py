"""Averaging against arithmetic, each selection rule, and what is refused."""

import hashlib
import json
from pathlib import Path
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_inputs import TINY_PARAMS
from tiny_model import tiny_config, tiny_vocabulary, tiny_weights

from transformer.averaging.average import average, select
from transformer.errors import DataError, ParamsError
from transformer.model.checkpoints import Checkpoint, kept, read_weights, write_checkpoint, write_index
from transformer.model.folder import load_model, write_config
from transformer.params import AveragingParams, DecodingParams, params_from, read_decoding
from transformer.relations import averaged_of, remarks
from transformer.tokens.vocabulary import VOCABULARY_FILE, Vocabulary

DECODING = DecodingParams(beam=3, alpha=1.5, max_extra_length=20, batch_tokens=100)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return tiny_vocabulary()


def averaging(**changes: object) -> AveragingParams:
    base = {"rule": "last", "count": 2, "at_least": 1, "minutes_apart": 10.0, "min_updates_apart": 100}
    return AveragingParams.model_validate({**base, **changes})


def write_checkpoints(folder: Path, vocabulary: Vocabulary, updates: list[int]) -> tuple[Path, Path]:
    """A checkpoints folder with random weights seeded by their update, and a tokens folder with the vocabulary."""
    checkpoints, tokens = folder / "checkpoints", folder / "tokens"
    tokens.mkdir(parents=True)
    (tokens / VOCABULARY_FILE).write_bytes(vocabulary.model)
    listed = [Checkpoint(update, valid_loss=1 / update) for update in updates]
    for one in listed:
        write_checkpoint(checkpoints, one, tiny_weights(vocabulary, seed=one.update), vocabulary.model)
    write_index(checkpoints, listed)
    write_config(checkpoints, tiny_config(vocabulary))
    return checkpoints, tokens


def test_the_mean_by_hand(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200, 300])
    average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")
    weights = read_weights(tmp_path / "model" / "model.safetensors")
    second, third = tiny_weights(vocabulary, 200), tiny_weights(vocabulary, 300)
    assert weights.keys() == second.keys()
    for name, mean in weights.items():
        assert mean.dtype == torch.float32
        torch.testing.assert_close(mean, (second[name] + third[name]) / 2)


def test_the_folder_alone_loads_and_names_what_it_was_made_of(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")
    moved = (tmp_path / "model").rename(tmp_path / "elsewhere")
    assert load_model(moved, torch.device("cpu")).languages.target == "de"
    assert read_decoding(moved) == DECODING
    listing = json.loads((moved / "averaged.json").read_text())
    assert [entry["file"] for entry in listing["averaged"]] == [
        "update-00000100.safetensors",
        "update-00000200.safetensors",
    ]
    for entry in listing["averaged"]:
        assert entry["sha256"] == hashlib.sha256((checkpoints / entry["file"]).read_bytes()).hexdigest()
        assert entry["sha256"] in (moved / "model_card.md").read_text()
    assert sorted(path.name for path in moved.iterdir()) == [
        "averaged.json", "config.json", "decoding.json", "model.safetensors", "model_card.md", "spm.model",
    ]  # fmt: skip


def test_a_model_folder_names_the_precision_and_no_device(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100])
    decoding = DECODING.model_copy(update={"precision": "fp32", "device": "cuda"})
    average(averaging(count=1), decoding, checkpoints, tokens, tmp_path / "model")
    assert json.loads((tmp_path / "model" / "decoding.json").read_text()) == {
        "beam": 3, "alpha": 1.5, "max_extra_length": 20, "batch_tokens": 100, "precision": "fp32",
    }  # fmt: skip
    assert read_decoding(tmp_path / "model").device == "auto"


def test_a_damaged_model_folder_is_refused_and_named(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    model = tmp_path / "model"
    average(averaging(), DECODING, checkpoints, tokens, model)
    for file in sorted(model.iterdir()):
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 3):
            load_model(model, torch.device("cpu"))  # what was verified once is read again after a change
            file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
            if file.name != "averaged.json" or place == 0:  # the list itself also says where the model comes from
                with pytest.raises(DataError, match=f"{file.name} is damaged"):
                    load_model(model, torch.device("cpu"))
            file.write_bytes(whole)
    (model / "spm.model").unlink()
    with pytest.raises(DataError, match=r"spm\.model is missing"):
        load_model(model, torch.device("cpu"))


def test_a_missing_vocabulary_is_named(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    (tokens / "spm.model").unlink()
    with pytest.raises(DataError, match=r"spm\.model is missing: run the tokenize stage first"):
        average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")


@pytest.mark.parametrize("text", ["", "{", "[]", "7", '{"checkpoints": {}}', '{"checkpoints": [1]}', "[" * 100_000])
def test_a_broken_index_is_one_line(tmp_path: Path, vocabulary: Vocabulary, text: str) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    (checkpoints / "index.json").write_text(text)
    with pytest.raises(DataError, match=r"index\.json is damaged \(.*\): python -m flows.restore train") as caught:
        average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100])
    average(averaging(count=1), DECODING, checkpoints, tokens, tmp_path / "model")
    weights = read_weights(tmp_path / "model" / "model.safetensors")
    next(iter(weights.values())).view(-1)[3] = float("nan")
    save_file(weights, tmp_path / "model" / "model.safetensors")
    (tmp_path / "model" / "averaged.json").unlink()  # as of a model that came without hashes
    with pytest.raises(DataError, match=r"model\.safetensors: .* holds NaN or infinity"):
        load_model(tmp_path / "model", torch.device("cpu"))


def test_equal_checkpoints_give_equal_bytes(tmp_path: Path, vocabulary: Vocabulary) -> None:
    folders = []
    for name in ("a", "b"):
        checkpoints, tokens = write_checkpoints(tmp_path / name, vocabulary, [100, 200])
        average(averaging(), DECODING, checkpoints, tokens, tmp_path / name / "model")
        folders += [
            [path.read_bytes() for path in sorted(f.iterdir())] for f in (checkpoints, tmp_path / name / "model")
        ]
    assert folders[:2] == folders[2:]


def test_mixed_vocabularies_are_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    write_checkpoint(checkpoints, Checkpoint(200), tiny_weights(vocabulary, 200), b"another vocabulary")
    write_index(checkpoints, [Checkpoint(100), Checkpoint(200)])
    with pytest.raises(DataError, match=r"00000200\.safetensors was trained with the vocabulary \w+, not"):
        average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")


def test_a_changed_checkpoint_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    checkpoints, tokens = write_checkpoints(tmp_path, vocabulary, [100, 200])
    file = checkpoints / "update-00000200.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(DataError, match="has changed since training: expected sha256"):
        average(averaging(), DECODING, checkpoints, tokens, tmp_path / "model")


def updates(chosen: list[Checkpoint]) -> list[int]:
    return [one.update for one in chosen]


LISTED = [
    Checkpoint(100, True, 3.0, 1.0),
    Checkpoint(200, True, 1.0, 9.0),
    Checkpoint(250, False, 0.9, 11.0),
    Checkpoint(300, True, None, 11.5),
    Checkpoint(400, True, 1.5, 19.0),
    Checkpoint(500, True, 2.0, 21.5),
]


def test_last_takes_scheduled_checkpoints_by_update() -> None:
    assert updates(select(averaging(count=4), LISTED)) == [200, 300, 400, 500]


def test_best_takes_the_lowest_validation_losses() -> None:
    assert updates(select(averaging(rule="best", count=2, min_updates_apart=1), LISTED)) == [200, 250]


def test_minutes_goes_back_from_the_last_in_steps() -> None:
    assert updates(select(averaging(rule="minutes", count=3), LISTED)) == [100, 300, 500]


def test_of_near_duplicates_the_rule_s_first_counts() -> None:
    assert updates(select(averaging(rule="best"), LISTED)) == [250, 400]
    assert updates(select(averaging(rule="best", count=9, min_updates_apart=51), LISTED)) == [100, 250, 400, 500]


def test_the_end_off_the_grid_takes_the_place_of_its_neighbour() -> None:
    stopped = [Checkpoint(update) for update in (100, 200, 300, 350)]
    assert updates(select(averaging(count=5), stopped)) == [100, 200, 350]


def test_fewer_than_count_are_enough_down_to_at_least(caplog: pytest.LogCaptureFixture) -> None:
    assert updates(select(averaging(count=9, at_least=5), LISTED)) == [100, 200, 300, 400, 500]
    with pytest.raises(ParamsError, match=r"averaging\.at_least = 6, but the rule last finds only 5 of 6"):
        select(averaging(count=9, at_least=6), LISTED)


@given(
    st.sampled_from(["last", "best"]), st.integers(1, 60), st.integers(1, 20), st.integers(1, 20), st.integers(1, 6),
    st.integers(1, 6), st.integers(1, 30), st.randoms(),
)  # fmt: skip
@settings(max_examples=300, deadline=None, derandomize=True)
def test_what_params_promise_before_the_training_is_found_after_it(
    rule: str, end: int, every: int, validate: int, keep: int, count: int, apart: int, random: Random
) -> None:
    """Whatever the validation losses turn out to be: against a walk through every update, as the loop makes it."""
    written = []
    for update in range(1, end + 1):
        validated = update % validate == 0 or update == end
        if update % every == 0 or update == end:
            written.append(Checkpoint(update, True, random.random() if validated else None))
    training = {**TINY_PARAMS["training"], "updates": end, "checkpoint_every_updates": every, "keep_last": keep}
    training |= {"validate_every": validate}
    average = {
        "rule": rule,
        "count": min(count, keep),
        "at_least": 1,
        "minutes_apart": 1.0,
        "min_updates_apart": apart,
    }
    asked = params_from({**TINY_PARAMS, "training": training, "averaging": average}, "test")
    found = len(select(asked.averaging, kept(written, keep)))
    promised = averaged_of(asked, end)
    assert found >= promised  # the best checkpoint is kept as well, and may be one more
    assert bool(remarks(asked)) == (promised < asked.averaging.count)


def test_minutes_without_times_is_refused() -> None:
    with pytest.raises(ParamsError, match=r"needs training\.checkpoint_every_minutes"):
        select(averaging(rule="minutes"), [Checkpoint(100), Checkpoint(200)])


def test_kept_are_the_last_scheduled_and_the_best() -> None:
    assert updates(kept(LISTED, 2)) == [250, 400, 500]
    assert updates(kept([Checkpoint(1), Checkpoint(2), Checkpoint(3)], 2)) == [2, 3]
