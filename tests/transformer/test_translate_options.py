"""What `transformer translate` can be asked for: beginnings, protection, long lines, samples, ensembles, JSON."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_model import (
    MAX_POSITIONS,
    TINY_DECODING,
    sentence,
    tiny_config,
    tiny_vocabulary,
    tiny_weights,
    write_tiny_model,
)

from transformer.cli import main
from transformer.decoding.search import length_penalty
from transformer.files import write_json
from transformer.model.folder import write_model
from transformer.params import DECODING_FILE

Command = Callable[..., str]
LINES = [sentence(1, 4), "", sentence(2, 6), sentence(3, 2), sentence(1, 4)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models one, two (the same vocabulary) and other (another)."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder / "one")
    vocabulary = tiny_vocabulary()
    write_model(folder / "two", tiny_config(vocabulary), tiny_weights(vocabulary, seed=1), vocabulary)
    write_json(folder / "two" / DECODING_FILE, TINY_DECODING.model_dump())
    shutil.copytree(folder / "one", folder / "other")
    vocabulary.model += b"\x9a\x01\x00"  # an empty field more, as another training of the vocabulary would differ
    (folder / "other" / "spm.model").write_bytes(vocabulary.model)
    (folder / "averaged.json").unlink(missing_ok=True)
    return folder


@pytest.fixture
def translated(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """The output of the command for some lines; its one line of complaint where it fails."""

    def call(*options: str, lines: list[str] = LINES) -> str:
        text = tmp_path / "text"
        text.write_text("".join(f"{line}\n" for line in lines))
        named = [] if "--model" in options else ["--model", str(models / "one")]
        status = main(["translate", str(text), "--device", "cpu", *named, *options])
        output = capsys.readouterr()
        assert (output.out == "") == (status != 0)
        assert output.err.count("\n") == (status != 0) or "longer than" in output.err
        return output.out or output.err

    return call


def objects(text: str) -> list[dict[str, Any]]:
    """JSON Lines, in which NaN and infinity are no numbers."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def test_every_translation_begins_as_told(translated: Command, tmp_path: Path) -> None:
    found = translated("--prefix", "Möchtest du {x} garden ").splitlines()
    assert [line.startswith("Möchtest du {x} garden ") for line in found] == [True, False, True, True, True]
    assert found[1] == ""
    prefixes = ["the li", "unused", "", "日本", "in "]
    (tmp_path / "prefixes").write_text("\n".join(prefixes))
    for options in ((), ("--sample",), ("--batch-tokens", "1")):
        found = translated("--prefixes", str(tmp_path / "prefixes"), *options).splitlines()
        assert [found[0][:6], found[1], found[3][:2], found[4][:3]] == ["the li", "", "日本", "in "]
        if not options:
            assert found[2] == translated().splitlines()[2]


def test_a_prefix_that_the_model_has_no_room_for_is_one_line(translated: Command) -> None:
    said = translated("--prefix", "x" * 200)
    assert said.startswith(f"transformer: line 1: no translation of at most {MAX_POSITIONS} tokens begins with 'xxx")


def test_as_many_prefixes_as_lines_are_needed(translated: Command, tmp_path: Path) -> None:
    file = tmp_path / "prefixes"
    for count in (4, 6):
        file.write_text("a\n" * count)
        assert f"prefixes has {count} lines and the text 5" in translated("--prefixes", str(file))


def test_protected_text_is_kept_exactly_as_often(translated: Command) -> None:
    """A random network writes none of it by itself."""
    lines = ["turn {name} on", "garden <b>now</b>", "in 12 off 7 on 12", "the door %1$s", "hall a.b@c.org 9:30 06"]
    kept = translated("--protect", "all", lines=lines).splitlines()
    wanted = [{"{name}": 1}, {"<b>": 1, "</b>": 1}, {"12": 2, "7": 1}, {"%1$s": 1}, {"a.b@c.org": 1}]
    for text, counts in zip(kept, wanted, strict=True):
        assert {one: text.count(one) for one in counts} == counts
    plain = translated(lines=lines).splitlines()
    assert translated("--protect", "tags", lines=lines).splitlines()[2:] == plain[2:]


def test_a_line_that_is_too_long_is_split_and_joined_again(translated: Command) -> None:
    sentences = [f"{sentence(seed, 6)}." for seed in range(12)]
    sentences = [text[0].upper() + text[1:] for text in sentences]
    short, long = sentence(50, 3), " ".join(sentences)
    found = translated("--long-lines", "split", lines=[short, long]).splitlines()
    alone = translated(lines=sentences).splitlines()
    assert found == [translated(lines=[short]).strip(), " ".join(text for text in alone if text)]
    record = objects(translated("--long-lines", "split", "--json", lines=[short, long]))[1]
    assert [one["source"] for one in record["sentences"]] == sentences
    assert record["log_prob"] == pytest.approx(sum(one["log_prob"] for one in record["sentences"]), abs=1e-4)
    cut = objects(translated("--json", lines=[short, long]).split("\n", 1)[1])
    assert cut[0]["cut"] is True


def test_samples_follow_the_seed_alone(translated: Command) -> None:
    drawn = translated("--sample", "--seed", "3", "--nbest", "4")
    one_by_one = translated("--sample", "--seed", "3", "--nbest", "4", "--batch-tokens", "1")
    assert [row.split(" ||| ")[:2] for row in drawn.splitlines()] == [
        row.split(" ||| ")[:2] for row in one_by_one.splitlines()
    ]
    assert drawn != translated("--sample", "--seed", "4", "--nbest", "4")
    assert translated("--sample") == translated("--sample", "--seed", "1", "--temperature", "1")
    first, second = translated("--sample", "--nbest", "1").splitlines()[0::4][:2]
    assert first.split(" ||| ")[1] != second.split(" ||| ")[1]  # the same sentence on another line
    likeliest = translated("--sample", "--top-k", "1")
    assert likeliest == translated("--beam", "1")


def test_an_ensemble_of_one_model_is_that_model(translated: Command, models: Path) -> None:
    one, two = str(models / "one"), str(models / "two")
    twice = translated("--model", one, "--model", one, "--nbest", "3")
    assert [row.split(" ||| ")[1] for row in twice.splitlines()] == [
        row.split(" ||| ")[1] for row in translated("--nbest", "3").splitlines()
    ]
    both = translated("--model", one, "--model", two)
    assert both == translated("--model", two, "--model", one) != translated()
    assert "has another vocabulary than" in translated("--model", one, "--model", str(models / "other"))


def test_nbest_holds_no_text_twice(translated: Command) -> None:
    lines = [sentence(seed, 5) for seed in range(30)]
    found = [row.split(" ||| ") for row in translated("--nbest", "8", "--beam", "8", lines=lines).splitlines()]
    assert len({(row[0], row[1]) for row in found}) == len(found)
    assert next(row[1] for row in found if row[0] == "7") == translated("--beam", "8", lines=lines).splitlines()[6]


def test_json_holds_what_was_found(translated: Command) -> None:
    lines = ["the door &amp; the {x}", "", sentence(9, 5)]
    plain, nbest = translated(lines=lines).splitlines(), translated("--nbest", "2", lines=lines)
    found = objects(translated("--json", "--nbest", "2", lines=lines))
    assert [one["line"] for one in found] == [1, 2, 3]
    assert [one["source"] for one in found] == lines
    assert [one["text"] for one in found] == plain
    rows = "".join(
        f"{one['line']} ||| {each['text']} ||| {each['score']:.4f}\n" for one in found for each in one["nbest"]
    )
    assert rows == nbest
    for one in found[::2]:
        length = len(one["tokens"])
        assert one["tokens"][-1] == one["source_tokens"][-1] == "</s>"
        assert sum(one["token_log_probs"]) == pytest.approx(one["log_prob"], abs=1e-3)
        assert one["log_prob"] == pytest.approx(one["score"] * length_penalty(length, 0.6), abs=1e-4)
        assert [len(row) for row in one["alignment"]] == [len(one["source_tokens"])] * length
        assert all(sum(row) == pytest.approx(1, abs=0.01) for row in one["alignment"])
    empty = {"text": "", "score": 0, "log_prob": 0, "cut": False, "source_tokens": [], "tokens": []}
    empty |= {"token_log_probs": [], "alignment": []}
    assert found[1] == {"line": 2, "source": "", **empty, "nbest": [empty]}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sample", "--beam", "2"], "--sample draws and does not search: leave out --beam"),
        (["--sample", "--protect", "all"], "what is drawn at random can't be protected"),
        (["--seed", "1"], "--seed is for --sample, which is missing"),
        (["--top-k", "5"], "--top-k is for --sample, which is missing"),
        (["--sample", "--temperature", "0"], "--temperature: must be a number from 0.01 to 100, not 0"),
        (["--sample", "--seed", "-1"], "--seed: must be a whole number from 0 to"),
        (["--sample", "--nbest", "65"], "--nbest: must be a whole number from 1 to 64, not 65"),
        (["--protect", "numbers,dates"], "not 'dates'"),
        (["--prefix", "a", "--prefixes", "b"], "--prefixes: not allowed with argument --prefix"),
        (["--prefixes", "nowhere"], "cannot be read: No such file or directory"),
        (["--long-lines", "drop"], "--long-lines: invalid choice: 'drop'"),
    ],
)
def test_what_does_not_go_together_is_one_line(options: list[str], said: str, translated: Command) -> None:
    assert said in translated(*options)
