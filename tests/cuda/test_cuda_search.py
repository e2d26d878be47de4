"""Beam search on the device beside the CPU's, both in float32."""

import pytest
import torch
from on_device import DEVICE, limit_memory, only_on_a_gpu
from tiny_model import TINY_DECODING, sentence, tiny_config, tiny_vocabulary, tiny_weights

from transformer.decoding.translation import Translation
from transformer.decoding.translator import Translator
from transformer.errors import DeviceMemoryError
from transformer.model.folder import assemble_model

pytestmark = pytest.mark.cuda

LINES = [sentence(seed, 1 + seed % 9) for seed in range(120)]
SCORE = 1e-4  # float32 sums in another order, over the tokens of a hypothesis


def translator(device: str) -> Translator:
    vocabulary, where = tiny_vocabulary(), torch.device(device)
    model = assemble_model(tiny_config(vocabulary), tiny_weights(vocabulary), vocabulary, where).model
    return Translator(model, vocabulary, TINY_DECODING, where, torch.float32)


def nbest(device: str) -> list[list[Translation]]:
    torch.set_float32_matmul_precision("highest")
    return translator(device).translate_nbest(LINES, 2)


def test_the_translations_are_those_of_the_cpu() -> None:
    """Texts may differ only where the CPU's two best have the same score but for rounding."""
    differing = 0
    for ours, expected in zip(nbest(DEVICE), nbest("cpu"), strict=True):
        assert ours[0].score == pytest.approx(expected[0].score, abs=SCORE)
        if ours[0].text != expected[0].text:
            differing += 1
            assert expected[0].score - expected[1].score < SCORE
    assert differing <= len(LINES) // 50
    assert len({translations[0].text for translations in nbest("cpu")}) > len(LINES) // 4


@only_on_a_gpu
def test_too_little_memory_is_one_line() -> None:
    found = translator(DEVICE)
    limit_memory(megabytes=2)
    try:
        with pytest.raises(
            DeviceMemoryError, match=r"sentences of up to \d+ tokens with beam 4 do not fit the memory"
        ):
            found.translate(LINES * 10)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
