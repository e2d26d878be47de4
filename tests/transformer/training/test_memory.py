"""training.micro_batch_tokens: null follows from the model and the class of card, and messages say what to do."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_inputs import TINY_PARAMS
from trainings import prepared, tiny_tokens, trained

from transformer.errors import DeviceMemoryError
from transformer.params import Params, load_params, params_from
from transformer.training.memory import PLAIN_TOKENS, card_class, micro_batch_tokens

PRESETS = Path(__file__).parents[3] / "presets"
GPU = torch.device("cuda", 0)
# total_memory as drivers report it: L4, GeForce RTX 4090, A100 40 GB, H100 80 GB, H200.
REPORTED = {24: (23_034 << 20, 24_564 << 20), 40: (40_326 << 20,), 80: (81_079 << 20,), 144: (143_156 << 20,)}


def params(**training: Any) -> Params:
    return params_from({**TINY_PARAMS, "training": {**TINY_PARAMS["training"], **training}}, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("memory"))


def chosen(monkeypatch: pytest.MonkeyPatch, preset: str, total_memory: int, asked: int | None = None) -> int:
    properties = SimpleNamespace(total_memory=total_memory)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    wanted = load_params(PRESETS / f"{preset}.yaml")
    pieces, batch = wanted.tokenization.vocabulary_size, wanted.training.batch_target_tokens
    return micro_batch_tokens(asked, batch, wanted.model, pieces, GPU, torch.bfloat16)


def test_cards_of_a_class_are_one() -> None:
    for gigabytes, reported in REPORTED.items():
        assert {card_class(total) for total in reported} == {gigabytes * 10**9}


def test_an_update_is_one_piece_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """25 000 target tokens, and sources up to as many again."""
    found = {
        (size, gigabytes): {chosen(monkeypatch, f"wmt14-en-de-{size}", total) for total in reported}
        for size in ("base", "big")
        for gigabytes, reported in REPORTED.items()
    }
    assert all(len(same) == 1 for same in found.values())
    whole = 50_176
    assert found["base", 40] == found["base", 80] == found["big", 80] == {whole}
    (base, big) = (min(found[size, 24]) for size in ("base", "big"))
    assert 25_000 < base <= whole  # one piece
    assert 12_500 < big < 25_000  # two
    assert 25_000 < min(found["big", 40]) <= whole
    assert chosen(monkeypatch, "wmt14-en-de-big", REPORTED[24][0], asked=32_768) == 32_768


def test_a_model_that_no_card_of_the_class_holds_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceMemoryError, match=r"takes 5\.\d GB before the first token.* card of 8 GB"):
        chosen(monkeypatch, "wmt14-en-de-big", 6 << 30)


def test_on_a_cpu_null_is_a_constant_and_is_logged(
    tmp_path: Path, tokens: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for folder, asked in ("null", None), ("stated", PLAIN_TOKENS):
        (tmp_path / folder).mkdir()
        trained(tmp_path / folder, tokens, params(micro_batch_tokens=asked, updates=20))
        logged = "training.micro_batch_tokens: null, which is 4096 on this device" in caplog.text
        assert logged == (asked is None)
        caplog.clear()
    one, other = ((tmp_path / folder / "checkpoints" / "index.json").read_bytes() for folder in ("null", "stated"))
    assert one == other


@pytest.mark.parametrize("where", ["forward", "step", "validate"])
@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (300, r"training\.micro_batch_tokens = 300 does not fit into the memory of cpu: lower it"),
        (
            None,
            r"micro_batch_tokens: null, here 4096, does not fit into the memory of cpu: state a number bel",
        ),
    ],
)
def test_too_small_a_memory_is_one_line(
    tokens: Path, monkeypatch: pytest.MonkeyPatch, where: str, asked: int | None, message: str
) -> None:
    """Wherever it shows: in the network, where Adam's moments are made, or in validation's larger batches."""

    def full(*arguments: Any, **keywords: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    run = prepared(params(micro_batch_tokens=asked), tokens)
    if where == "step":
        monkeypatch.setattr(run.optimizer, "step", full)
    else:
        monkeypatch.setattr(run.model, "hidden", full)
        monkeypatch.setattr(run.network, "_hidden", full)
    with pytest.raises(DeviceMemoryError, match=message):
        run.validate() if where == "validate" else run.update(1, run.work([run.train_sentences[:5]]))
