"""Attention weights against torch's own module with the same matrices; the pictures' bytes; the command."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from matplotlib.image import imread
from random_network import copy_attention, network
from tiny_model import sentence, tiny_config, tiny_vocabulary, tiny_weights, write_tiny_model
from torch import Tensor, nn

from transformer.cli import main
from transformer.decoding.recorded_attention import RecordedAttention
from transformer.decoding.translator import Translator
from transformer.errors import DataError, ParamsError
from transformer.evaluation.attention import AttentionMaps, attention_maps
from transformer.evaluation.attention_plots import CELL, DPI, GAP, draw_attention, draw_examples, readable
from transformer.model.folder import assemble_model
from transformer.model.layers import MultiHeadAttention
from transformer.model.transformer import Transformer
from transformer.tokens.vocabulary import BOS, EOS, PAD, Vocabulary

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return tiny_vocabulary()


@pytest.fixture(scope="module")
def model(vocabulary: Vocabulary) -> Transformer:
    return assemble_model(tiny_config(vocabulary), tiny_weights(vocabulary), vocabulary, CPU).model


def torchs_weights(ours: MultiHeadAttention, query: Tensor, key: Tensor, causal: bool = False) -> Tensor:
    """Weights of each head by torch's module with our matrices."""
    width = query.size(-1)
    torchs = nn.MultiheadAttention(width, ours.heads, batch_first=True).eval()
    copy_attention(ours, torchs)
    hidden = torch.ones(query.size(1), key.size(1), dtype=torch.bool).triu(1) if causal else None
    _, weights = torchs(query, key, key, attn_mask=hidden, need_weights=True, average_attn_weights=False)
    return weights[0]


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_weights_of_every_layer_equal_torchs(norm: str) -> None:
    """Each layer's input is caught by a hook of its own, so that places are checked as well as values."""
    model = network(norm=norm)
    source, target = torch.tensor([[5, 6, 7, 8, EOS]]), torch.tensor([[BOS, 9, 10, 11]])
    inputs: list[tuple[nn.Module, Tensor]] = []
    for layer in [*model.encoder, *model.decoder]:
        layer.register_forward_pre_hook(lambda module, args: inputs.append((module, args[0])))
    model.requires_grad_(False)
    with RecordedAttention() as recorded:
        model.hidden(source, target)
        memory = model.encode(source, source[:, None, None] != PAD)
    weights = iter(recorded.weights)
    for layer, x in inputs[:2]:
        around = layer.around_self_attention
        normed = around.norm(x) if norm == "pre" else x
        torch.testing.assert_close(next(weights)[0], torchs_weights(layer.self_attention, normed, normed))
    for layer, x in inputs[2:4]:
        normed = layer.around_self_attention.norm(x) if norm == "pre" else x
        torch.testing.assert_close(next(weights)[0], torchs_weights(layer.self_attention, normed, normed, True))
        after = layer.around_self_attention(x, lambda y, layer=layer: layer.self_attention(y, causal=True))
        query = layer.around_cross_attention.norm(after) if norm == "pre" else after
        torch.testing.assert_close(next(weights)[0], torchs_weights(layer.cross_attention, query, memory))


def test_rows_sum_to_one_and_masked_places_are_zero(model: Transformer, vocabulary: Vocabulary) -> None:
    source, target = sentence(1, 6), sentence(2, 4)
    maps = attention_maps(model, vocabulary, source, target)
    s, t = len(vocabulary.encode(source)) + 1, len(vocabulary.encode(target)) + 1
    assert (len(maps.source), len(maps.written), len(maps.read)) == (s, t, t)
    assert maps.encoder.shape == (1, 2, s, s)
    assert maps.decoder.shape == (1, 2, t, t)
    assert maps.cross.shape == (1, 2, t, s)
    for weights in (maps.encoder, maps.decoder, maps.cross):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert (maps.decoder.triu(1) == 0).all()
    assert (maps.encoder > 0).all()
    assert (maps.source[-1], maps.written[-1], maps.read[0]) == ("</s>", "</s>", "<s>")
    assert maps.written[:-1] == maps.read[1:]
    assert "".join(maps.source[:-1]).replace("▁", " ").strip() == source


def test_padding_gets_no_weight() -> None:
    model = network()
    source, target = torch.tensor([[5, 6, EOS], [5, EOS, PAD]]), torch.tensor([[BOS, 9], [BOS, 9]])
    with torch.inference_mode(), RecordedAttention() as recorded:
        model.hidden(source, target)
    for place in (0, 1, 3, 5):  # all but the decoder's self-attention
        weights = recorded.weights[place][1]
        assert (weights[..., 2] == 0).all()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


def test_recording_changes_nothing_and_ends_with_its_body(model: Transformer) -> None:
    source, target = torch.tensor([[5, 6, EOS]]), torch.tensor([[BOS, 9]])
    with torch.inference_mode():
        before = model.hidden(source, target)
        with RecordedAttention() as recorded:
            assert torch.equal(model.hidden(source, target), before)
        model.hidden(source, target)
    assert len(recorded.weights) == 3


@pytest.mark.parametrize("key_size", [None, 3])
def test_keys_of_another_size_follow_the_papers_formula(key_size: int | None) -> None:
    torch.manual_seed(2)
    ours = MultiHeadAttention(16, 4, key_size)
    nn.init.normal_(ours.project_in.bias)
    x, d_k = torch.randn(2, 5, 16), key_size or 4
    q, k, v = (
        (x @ weight.T + bias).view(2, 5, 4, -1).transpose(1, 2)
        for weight, bias in zip(
            ours.project_in.weight.split([4 * d_k, 4 * d_k, 16]),
            ours.project_in.bias.split([4 * d_k, 4 * d_k, 16]),
            strict=True,
        )
    )
    heads = (q @ k.transpose(-2, -1) / math.sqrt(d_k)).softmax(-1) @ v
    expected = F.linear(heads.transpose(1, 2).reshape(2, 5, 16), ours.project_out.weight, ours.project_out.bias)
    torch.testing.assert_close(ours(x), expected)
    torch.testing.assert_close(ours.attend(ours.queries(x), *ours.keys_values(x)), expected)


def test_pictures_are_deterministic_and_hold_every_panel(tmp_path: Path) -> None:
    pieces, weights = [f"▁{number}" for number in range(30)], torch.rand(2, 2, 30, 30).softmax(-1)
    maps = AttentionMaps(pieces, pieces, pieces, weights, weights, weights)
    first = draw_attention(tmp_path / "a", maps)
    again = draw_attention(tmp_path / "b", maps)
    assert [path.name for path in first] == ["encoder.png", "decoder.png", "cross.png"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    panel = (30 * CELL + GAP) * DPI
    for all_, one in zip(first, draw_attention(tmp_path / "c", maps, layers=[2], heads=[1]), strict=True):
        height, width = (a - b for a, b in zip(imread(all_).shape[:2], imread(one).shape[:2], strict=True))
        assert (height, width) == pytest.approx((panel, panel), abs=3)
    with pytest.raises(ParamsError, match=r"^there is no head 5: the model has 2$"):
        draw_attention(tmp_path / "d", maps, heads=[5])


def test_a_weight_is_drawn_where_it_belongs(tmp_path: Path) -> None:
    """One query that looks at the last key alone: the darkest cells stand there, and the hidden ones are grey."""
    weights = torch.zeros(1, 1, 4, 4)
    weights[..., :, 0] = 1
    maps = AttentionMaps(["▁a"] * 4, ["▁a"] * 4, ["▁a"] * 4, weights, weights, weights)
    encoder, decoder, _ = draw_attention(tmp_path, maps)
    pixels = imread(encoder)
    dark = (pixels[..., :3].max(-1) < 0.3).nonzero()
    side = round(1.25 * 110)
    corner = dark[1].min()
    assert dark[0].size > side * side / 5
    column = (pixels[..., :3].max(-1) < 0.3)[:, : corner + side // 2].sum(0)
    assert (column > side * 0.9).sum() == pytest.approx(side / 4, abs=3)
    grey = (abs(imread(decoder)[..., :3] - [0xE6 / 255, 0xE8 / 255, 0xEC / 255]).max(-1) < 0.01).sum()
    assert grey == pytest.approx(side * side * 6 / 16, rel=0.1)


@pytest.mark.parametrize(
    ("piece", "label"), [("▁door", "door"), ("chen", "-chen"), (".", "."), ("▁", "▁"), ("</s>", "</s>"), ("$", "$")]
)
def test_labels_tell_words_from_their_continuations(piece: str, label: str) -> None:
    assert readable(piece) == label


def test_examples_are_of_a_size_that_can_be_read(model: Transformer, vocabulary: Vocabulary, tmp_path: Path) -> None:
    sources = [sentence(1, 1), sentence(2, 3), sentence(3, 6), sentence(4, 40)]
    targets = [sentence(5, 1), "", sentence(6, 6), sentence(7, 40)]
    assert [len(vocabulary.encode(text)) for text in (sources[2], targets[2])] == [11, 17]
    draw_examples(tmp_path / "one", model, vocabulary, sources, targets, 1)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["3"]
    draw_examples(tmp_path / "all", model, vocabulary, sources, targets, 9)
    assert {path.name for path in (tmp_path / "all").iterdir()} == {"1", "3"}
    draw_examples(tmp_path / "none", model, vocabulary, sources, targets, 0)
    assert list((tmp_path / "none").iterdir()) == []


@pytest.mark.parametrize(("source", "target"), [("", "door"), ("door", ""), (sentence(1, 40), "door")])
def test_a_side_that_cannot_be_shown_is_named(
    model: Transformer, vocabulary: Vocabulary, source: str, target: str
) -> None:
    side = "target" if source == "door" else "source"
    with pytest.raises(DataError, match=rf"^the {side} has \d+ pieces; attention is shown for 1 to 31$"):
        attention_maps(model, vocabulary, source, target)


def test_command_draws_the_models_own_translation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "model"
    write_tiny_model(folder)
    text = sentence(3, 3)
    common = ["attention", text, "--model", str(folder), "--device", "cpu", "--out"]
    assert main([*common, str(tmp_path / "own")]) == 0
    translation, *paths = capsys.readouterr().out.splitlines()
    assert translation == Translator.load(folder, "cpu").translate([text])[0]
    assert paths == [str(tmp_path / "own" / f"{name}.png") for name in ("encoder", "decoder", "cross")]
    assert main([*common, str(tmp_path / "given"), "--target", translation]) == 0
    for path in map(Path, paths):
        assert path.read_bytes() == (tmp_path / "given" / path.name).read_bytes()
    assert main([*common, str(tmp_path / "no"), "--layer", "7"]) == 2
    assert capsys.readouterr().err == "transformer: there is no layer 7: the model has 1\n"
    assert not (tmp_path / "no").exists()
