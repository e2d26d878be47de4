"""Text in, text out: order, empty lines, cleaning, long lines, batches."""

import logging
from pathlib import Path

import pytest
import torch
from tiny_model import MAX_POSITIONS, sentence, write_tiny_model

from transformer.decoding.line_translator import batches_by_length
from transformer.decoding.search import beam_search
from transformer.decoding.translator import Translator
from transformer.errors import DataError
from transformer.params import DecodingParams
from transformer.tokens.vocabulary import EOS

PARAMS = DecodingParams(beam=2, alpha=0.6, max_extra_length=6, batch_tokens=40, precision="fp32")


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return Translator.load(folder, "cpu", PARAMS)


def searched(translator: Translator, text: str) -> str:
    """One sentence through vocabulary and search alone."""
    source = torch.tensor([[*translator.vocabulary.encode(text), EOS]])
    best = beam_search(translator.model, source, PARAMS)[0][0]
    return " ".join(translator.vocabulary.decode(best.tokens).split())


def test_order_is_kept_and_empty_lines_stay_empty(translator: Translator) -> None:
    lines = [sentence(1, 6), "", sentence(2, 1), sentence(3, 9), " \t\u00ad ", sentence(4, 3), sentence(1, 6)]
    found = translator.translate(lines)
    assert found == [searched(translator, line) if line.split() and line.isascii() else "" for line in lines]
    assert found[1] == found[4] == ""
    assert found[0] == found[6]
    assert len(set(found)) == 5
    assert translator.translate([]) == []
    assert translator.translate(["", ""]) == ["", ""]


def test_input_is_cleaned_as_training_text_was(translator: Translator) -> None:
    plain, dirty = translator.translate(["the light & the door", " the  light & the\u200b do\u00ador\r"])
    assert plain == dirty != ""


def test_nbest_is_sorted_and_begins_with_the_translation(translator: Translator) -> None:
    lines = [sentence(5, 4), "", sentence(6, 8)]
    nbest = translator.translate_nbest(lines, nbest=2)
    assert [translations[0].text for translations in nbest] == translator.translate(lines)
    assert [len(translations) for translations in nbest] == [2, 1, 2]
    assert all(translations[0].score >= translations[-1].score for translations in nbest)
    assert nbest[1][0].text == ""


def test_lines_beyond_the_positions_are_cut_with_one_warning(
    translator: Translator, caplog: pytest.LogCaptureFixture
) -> None:
    long = sentence(7, 80)
    ids = translator.vocabulary.encode(long)
    assert len(ids) > MAX_POSITIONS
    lines = [sentence(8, 3), long, long]
    with caplog.at_level(logging.WARNING):
        found = translator.translate_nbest(lines, first_line=41)
    assert [record.getMessage() for record in caplog.records] == [
        f"lines 42, 43 are longer than the model's {MAX_POSITIONS - 1} tokens: only the beginning is translated"
    ]
    source = torch.tensor([[*ids[: MAX_POSITIONS - 1], EOS]])
    expected = translator.vocabulary.decode(beam_search(translator.model, source, PARAMS)[0][0].tokens)
    assert found[1][0].text == found[2][0].text == " ".join(expected.split())
    assert found[0][0].text == searched(translator, lines[0])


def test_progress_counts_every_line_once(translator: Translator) -> None:
    counts: list[int] = []
    lines = [sentence(seed, 1 + seed % 7) for seed in range(20)] + [""]
    translator.translate_nbest(lines, on_translated=counts.append)
    assert sum(counts) == len(lines)
    assert len(counts) > 3


def test_a_translation_is_one_line(translator: Translator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte pieces can spell a line feed."""
    line_feed = translator.vocabulary.encode("\n")[-1]
    monkeypatch.setattr(translator.vocabulary, "decode", lambda ids, decode=translator.vocabulary.decode: decode(
        [ids[0], line_feed, *ids[1:]]))  # fmt: skip
    found = translator.translate([sentence(9, 4)])[0]
    assert found
    assert "\n" not in found


def test_batches_hold_every_sentence_once_within_the_token_limit() -> None:
    lengths = [3, 0, 7, 30, 3, 1, 0, 12, 7, 3]
    batches = list(batches_by_length(lengths, 20))
    assert sorted(index for batch in batches for index in batch) == [0, 2, 3, 4, 5, 7, 8, 9]
    assert batches[0] == [3]  # longer than a batch: alone
    for batch in batches[1:]:
        assert max(lengths[index] for index in batch) * len(batch) <= 20
    assert len(batches) == 4


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json", "spm.model", "decoding.json"])
def test_incomplete_model_folder_is_one_line(tmp_path: Path, missing: str) -> None:
    write_tiny_model(tmp_path)
    (tmp_path / missing).unlink()
    with pytest.raises(DataError, match=missing) as caught:
        Translator.load(tmp_path, "cpu")
    assert "\n" not in str(caught.value)
