"""Exports for Hugging Face: its own classes load them and compute, cut and search as we do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import TINY_DECODING, sentence, write_uneven_model

from transformer.decoding.hypothesis import length_penalty
from transformer.decoding.search import beam_search
from transformer.export.export import export
from transformer.files import sha256_of
from transformer.model.folder import LoadedModel, load_model

transformers = pytest.importorskip("transformers")
LINES = [sentence(seed, 1 + seed % 5) for seed in range(20)]
KINDS = [{"norm": "post"}, {"norm": "pre"}, {"norm": "post", "positions": "learned"}]


@pytest.fixture(scope="module", params=KINDS, ids=str)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Any, Any]:
    """Our model, theirs, and their tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    model = write_uneven_model(folder / "model", **request.param)
    export(model, "huggingface", folder / "exported")
    theirs = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder / "exported").eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder / "exported")
    return load_model(model, torch.device("cpu")), theirs, tokenizer


def batch(ours: LoadedModel) -> torch.Tensor:
    ids = [[*tokens, 3] for tokens in ours.vocabulary.encode_batch(LINES)]
    longest = max(map(len, ids))
    return torch.tensor([[*one, *[0] * (longest - len(one))] for one in ids])


def test_its_tokenizer_cuts_as_our_vocabulary(both: tuple[LoadedModel, Any, Any]) -> None:
    ours, _, tokenizer = both
    texts = [*LINES, "the <unk> zebra & ünïcode ✓", "a"]
    expected = [[*ours.vocabulary.encode(one), 3] for one in texts]
    assert [list(ids) for ids in tokenizer(texts)["input_ids"]] == expected
    ids = ours.vocabulary.encode(texts[-2])
    assert tokenizer.decode([2, *ids, 3, 0], skip_special_tokens=True) == ours.vocabulary.decode(ids)
    assert tokenizer(LINES, padding=True, return_tensors="pt")["input_ids"].tolist() == batch(ours).tolist()


def test_its_logits_are_ours(both: tuple[LoadedModel, Any, Any]) -> None:
    ours, theirs, _ = both
    source = batch(ours)
    target = torch.randint(4, ours.vocabulary.size, (len(LINES), 12), generator=torch.Generator().manual_seed(1))
    target[:, 0] = 2
    with torch.inference_mode():
        mine = ours.model(source, target)
        other = theirs(input_ids=source, attention_mask=source != 0, decoder_input_ids=target).logits
    assert mine.std() > 1
    # Rounding of weights far larger than trained ones; those of the default preset differ by less than 1e-4.
    torch.testing.assert_close(other / mine.std(), mine / mine.std(), rtol=0, atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize("beam", [1, 4])
def test_its_search_finds_what_ours_finds(both: tuple[LoadedModel, Any, Any], beam: int) -> None:
    """In our order: theirs divides by another length penalty, and forces the end of sentence at no cost."""
    ours, theirs, _ = both
    source, settings = batch(ours), TINY_DECODING.model_copy(update={"beam": beam})
    for row in source:
        tokens = row[row != 0][None]
        best = beam_search(ours.model, tokens, settings)[0][0]
        given: dict[str, Any] = {"num_beams": beam, "num_return_sequences": beam, "early_stopping": beam > 1}
        found = theirs.generate(tokens, **given, length_penalty=0.4 if beam > 1 else None)
        hypotheses = [[one for one in sequence[1:].tolist() if one not in (0, 3)] for sequence in found]
        assert best.tokens == max(hypotheses, key=lambda one: score(ours, tokens, one))


def score(ours: LoadedModel, source: torch.Tensor, tokens: list[int]) -> float:
    target = torch.tensor([[2, *tokens, 3]])
    with torch.inference_mode():
        log_probs = ours.model(source, target[:, :-1]).log_softmax(-1).gather(2, target[:, 1:, None]).sum()
    return float(log_probs) / float(length_penalty(len(tokens) + 1.0, TINY_DECODING.alpha))


def test_equal_models_have_equal_exports(tmp_path: Path) -> None:
    model = write_uneven_model(tmp_path / "model")
    for name in ("one", "two"):
        export(model, "huggingface", tmp_path / name)
    assert sha256_of(tmp_path / "one") == sha256_of(tmp_path / "two")
