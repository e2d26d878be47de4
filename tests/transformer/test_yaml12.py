"""YAML as DVC reads and writes it, in every file that a user edits, and errors that name file and line."""

import io
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import parse_yaml as dvc_parse
from ruamel.yaml import YAML

from transformer.errors import ParamsError
from transformer.params import load_params
from transformer.yaml12 import InvalidYamlError, parse_yaml, read_yaml

CHECKOUT = Path(__file__).parents[2]
FILES = [CHECKOUT / name for name in ("params.yaml", "dvc.yaml", "dvc.lock", "data/corpora.yaml")]


@pytest.mark.parametrize(
    "text", ["1e-8", "1.0e-9", "no", "on", "1_000", "0o17", "017", "~", "12:30", "[yes, 1e5]", "'1'"]
)
def test_values_are_those_that_dvc_reads(text: str) -> None:
    ours = parse_yaml(f"value: {text}", "x")["value"]
    theirs = dvc_parse(f"value: {text}", "x")["value"]
    assert (type(ours), ours) == (type(theirs), theirs)


def test_numbers_and_words_by_hand() -> None:
    assert parse_yaml("{a: 1e-8, b: no, c: on, d: 0o17, e: true}", "x") == {
        "a": 1e-8, "b": "no", "c": "on", "d": 15, "e": True,
    }  # fmt: skip


@pytest.mark.parametrize("path", [*FILES, *sorted((CHECKOUT / "presets").iterdir())], ids=lambda path: path.name)
def test_our_files_are_the_same_to_dvc(path: Path) -> None:
    assert read_yaml(path) == dvc_parse(path.read_text(encoding="utf-8"), str(path))


@pytest.mark.parametrize("value", [1e-8, 1e-09, 2.5e-05, "no", "on", "1e-8", "null", None, ["yes", 1], 0.1])
def test_what_dvc_writes_is_read_back(value: Any) -> None:
    stream = io.StringIO()
    YAML().dump({"value": value}, stream)
    assert parse_yaml(stream.getvalue(), "x") == {"value": value}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3\n", 'f.yaml, line 3: not YAML: found duplicate key "a"'),
        ("a: 1\nb: [1, 2\n", "f.yaml, line 3: not YAML: did not find expected"),
        ("a: b: c\n", "f.yaml, line 1: not YAML: mapping values are not allowed"),
        (b"a: 1\nb: \xff\n", "f.yaml: not YAML: unacceptable character #x00ff: invalid leading UTF-8"),
        ("a: 2026-02-30", "f.yaml: not YAML: day is out of range"),
    ],
)
def test_what_is_no_yaml_is_told_in_one_line(text: str | bytes, told: str) -> None:
    with pytest.raises(InvalidYamlError) as caught:
        parse_yaml(text, "f.yaml")
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_a_key_that_stands_twice_in_params_is_named(tmp_path: Path) -> None:
    text = (CHECKOUT / "params.yaml").read_text(encoding="utf-8")
    line = text.splitlines().index("training:") + 2
    (tmp_path / "params.yaml").write_text(text.replace("  seed: 1\n", "  seed: 1\n  seed: 2\n"))
    with pytest.raises(ParamsError) as caught:
        load_params(tmp_path / "params.yaml")
    told = f'{tmp_path / "params.yaml"}, line {line + 1}: not YAML: found duplicate key "seed"'
    assert str(caught.value) == told
