"""Given pairs are scored as the search scores its own translations, and as the network alone would have it."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from tiny_model import MAX_POSITIONS, TINY_DECODING, sentence, write_tiny_model

from transformer.cli import main
from transformer.decoding.pairs import PairScorer
from transformer.decoding.translation import Options
from transformer.decoding.translator import Translator
from transformer.tokens.vocabulary import BOS, EOS

SOURCES = [sentence(seed, 1 + seed % 7) for seed in range(40)]
CLOSE = 1e-5


@pytest.fixture(scope="module")
def translator(tmp_path_factory: pytest.TempPathFactory) -> Translator:
    folder = tmp_path_factory.mktemp("model")
    write_tiny_model(folder)
    return Translator.load(folder, "cpu", TINY_DECODING.model_copy(update={"precision": "fp32"}))


def by_hand(translator: Translator, source: str, tokens: list[int]) -> float:
    """log P / lp with nothing but the network's forward pass and torch."""
    ids = torch.tensor([[*translator.vocabulary.encode(source), EOS]])
    with torch.inference_mode():
        logits = translator.model(ids, torch.tensor([[BOS, *tokens]]))[0].double()
    written = [*tokens, EOS]
    log_prob = sum(float(row.log_softmax(0)[token]) for row, token in zip(logits, written, strict=True))
    return log_prob / ((5 + len(written)) / 6) ** translator.decoding.alpha


def test_the_searchs_own_translations_have_the_searchs_own_scores(translator: Translator) -> None:
    found = [one[0] for one in translator.translate_nbest(SOURCES, options=Options(details=True))]
    scored = PairScorer(translator, search=True).score(SOURCES, [one.text for one in found])
    # This random network never ends a sentence before the positions do, where a beam may miss the pieces that fit.
    pairs = [
        (one, two) for one, two in zip(scored, found, strict=True) if two.details and two.details.tokens == one.tokens
    ]
    assert len(pairs) > 5
    for one, expected in pairs:
        assert (one.score, one.log_prob) == pytest.approx((expected.score, expected.log_prob), rel=CLOSE)


def test_fast_scores_are_the_networks_in_the_vocabularys_pieces(translator: Translator) -> None:
    targets = SOURCES[1:] + SOURCES[:1]
    scored = PairScorer(translator, search=False).score(SOURCES, targets)
    likeliest = PairScorer(translator, search=True).score(SOURCES, targets)
    for source, target, one, best in zip(SOURCES, targets, scored, likeliest, strict=True):
        tokens = translator.vocabulary.encode(target)
        assert one.score == pytest.approx(by_hand(translator, source, tokens), rel=CLOSE)
        assert one.log_prob == pytest.approx(sum(one.token_log_probs))
        assert one.tokens == translator.vocabulary.pieces([*tokens, EOS])
        assert best.score >= one.score


def test_the_likeliest_segmentation_is_that_of_all_of_them(translator: Translator) -> None:
    """A text of few letters, cut at every set of places; with a beam that holds them all."""
    pieces = {piece: id_ for id_, piece in enumerate(translator.vocabulary.pieces(list(range(330))))}
    wide = Translator(
        translator.model,
        translator.vocabulary,
        translator.decoding.model_copy(update={"beam": 64}),
        torch.device("cpu"),
    )
    for text in ("hal", "the", "on in"):
        spelled = "▁" + text.replace(" ", "▁")
        best = -math.inf
        for cuts in itertools.product((False, True), repeat=len(spelled) - 1):
            ends = [*(place + 1 for place, cut in enumerate(cuts) if cut), len(spelled)]
            parts = [spelled[start:end] for start, end in zip([0, *ends], ends, strict=False)]
            if all(part in pieces for part in parts):
                best = max(best, by_hand(translator, SOURCES[3], [pieces[part] for part in parts]))
        found = PairScorer(wide, search=True).score([SOURCES[3]], [text])[0]
        assert found.score >= best - CLOSE * abs(best)  # bytes, and a first word without a space, may be likelier yet
        ids = [pieces[token] for token in found.tokens[:-1]]
        assert translator.vocabulary.decode(ids) == text
        assert found.score == pytest.approx(by_hand(translator, SOURCES[3], ids), rel=CLOSE)


def test_what_the_model_cannot_make_says_why(translator: Translator) -> None:
    long = sentence(1, 2 * MAX_POSITIONS)
    found = PairScorer(translator, search=False).score(["", "", "the", long, "the"], ["", "the", long, "the", ""])
    assert [one.score == -math.inf for one in found] == [False, True, True, True, False]
    assert [one.problem.split(" has ")[0] for one in found] == [
        "",
        "the source is empty",
        "the target",
        "the source",
        "",
    ]
    assert (found[0].score, found[0].tokens, found[4].tokens) == (0.0, [], ["</s>"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tiny_model(tmp_path / "models" / "averaged")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_command_writes_a_line_a_pair(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "source").write_text("the light\n\nin the hall\n")
    (folder / "target").write_text("the door\r\nthe\nis open now")
    assert main(["score", "source", "target", "--details"]) == 0
    told = capsys.readouterr()
    rows = [line.split("\t") for line in told.out.splitlines()]
    assert told.err == "transformer: 1 of 3 pairs have no score: line 2: the source is empty\n"
    assert main(["score", "source", "target"]) == 0
    assert capsys.readouterr().out.splitlines() == [row[0] for row in rows]
    assert main(["score", "source", "target", "--json", "--alpha", "0"]) == 0
    objects = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [one["line"] for one in objects] == [1, 2, 3]
    assert (objects[1]["score"], objects[1]["problem"]) == (None, "the source is empty")
    assert rows[1] == ["-inf", "-inf", "0"]
    assert objects[0]["score"] == objects[0]["log_prob"] == pytest.approx(sum(objects[0]["token_log_probs"]))
    assert len(objects[0]["tokens"]) == len(objects[0]["token_log_probs"])


@pytest.mark.parametrize(
    ("sources", "targets", "scored", "told"),
    [
        ("the\nlight\n", "the\n", 1, "source, line 2 has no partner: target ends after line 1"),
        ("the\n", "the\nlight\nin\n", 1, "target, line 2 has no partner: source ends after line 1"),
        ("", "the\n", 0, "target, line 1 has no partner: source ends after line 0"),
        ("the\nlight\n", "the\n\udcff\n", 1, "target, line 2: byte 1 is not UTF-8; convert the text first"),
    ],
)
def test_sides_that_do_not_pair_are_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], sources: str, targets: str, scored: int, told: str
) -> None:
    (folder / "source").write_text(sources)
    (folder / "target").write_text(targets, errors="surrogateescape")
    assert main(["score", "source", "target", "--fast"]) == 3
    found = capsys.readouterr()
    assert (found.out.count("\n"), found.err.count("\n")) == (scored, 1)
    assert told in found.err
