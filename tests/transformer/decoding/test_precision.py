"""One score whatever the machine: float32 on a CPU, whatever it multiplies in, and no say of batches and threads."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_model import TINY_DECODING, sentence, write_tiny_model

from transformer.decoding.translator import Translation, Translator
from transformer.files import write_json
from transformer.model.device import select_precision, select_search_precision

LINES = [sentence(seed, 1 + seed % 9) for seed in range(120)]
ROUNDING = 1e-4  # of float32, over the tokens of a hypothesis; bfloat16's is a thousand times that
CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return folder


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def found(model: Path, precision: str, batch_tokens: int, threads: int = 1) -> list[Translation]:
    torch.set_num_threads(threads)
    decoding = TINY_DECODING.model_copy(update={"precision": precision, "batch_tokens": batch_tokens})
    return [translations[0] for translations in Translator.load(model, "cpu", decoding).translate_nbest(LINES)]


def differing(some: list[Translation], others: list[Translation]) -> tuple[int, float]:
    """How many texts differ, and how far the scores are apart at most."""
    pairs = list(zip(some, others, strict=True))
    return sum(a.text != b.text for a, b in pairs), max(abs(a.score - b.score) for a, b in pairs)


def test_batches_and_threads_change_no_translation_in_float32(model: Path, threads: None) -> None:
    alone = found(model, "fp32", 1)  # each sentence a batch of its own, without padding
    for batch_tokens, count in ((60, 1), (60, 2), (4096, 1), (4096, 2)):
        texts, apart = differing(found(model, "fp32", batch_tokens, count), alone)
        assert (texts, apart < ROUNDING) == (0, True), (batch_tokens, count)
    in_bfloat16 = [found(model, "bf16", batch_tokens) for batch_tokens in (60, 4096)]
    assert differing(*in_bfloat16)[1] > 10 * ROUNDING  # what this test would notice
    assert differing(in_bfloat16[0], alone)[0] > 0


def test_a_cpu_translates_in_float32_whatever_it_multiplies_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformer.model.device._multiplies_bfloat16", lambda device: True)
    assert select_precision("auto", CPU) == torch.bfloat16  # a training still does, where it is worth it
    assert select_search_precision("auto", CPU) == torch.float32
    assert select_search_precision("auto", GPU) == torch.bfloat16
    assert [select_search_precision("fp32", one) for one in (CPU, GPU)] == [torch.float32] * 2
    assert [select_search_precision("bf16", one) for one in (CPU, GPU)] == [torch.bfloat16] * 2
    monkeypatch.setattr("transformer.model.device._multiplies_bfloat16", lambda device: False)
    assert select_search_precision("auto", GPU) == torch.float32


def test_the_folders_precision_holds_and_one_without_is_float32_on_a_cpu(model: Path) -> None:
    old = TINY_DECODING.model_dump(exclude={"precision", "device"})
    for written, expected in ((old, torch.float32), ({**old, "precision": "bf16"}, torch.bfloat16)):
        write_json(model / "decoding.json", written)
        assert Translator.load(model, "cpu").precision == expected
