"""Overrides of a preset: what is written, what is kept, and what is refused in one line."""

from pathlib import Path
from typing import Any

import pytest
from tiny_inputs import CHECKOUT

from flows.retraining.overrides import overridden
from transformer.errors import ParamsError
from transformer.params import load_params

PRESETS = sorted((CHECKOUT / "presets").glob("*.yaml"))


@pytest.mark.parametrize("preset", PRESETS, ids=lambda path: path.stem)
def test_without_overrides_a_preset_stays_as_it_is(preset: Path) -> None:
    text, params = overridden(preset.read_text(), preset.name, {})
    assert text == preset.read_text()
    assert params == load_params(preset)


def test_values_are_replaced_and_comments_kept(tmp_path: Path) -> None:
    original = PRESETS[0].read_text()
    overrides: dict[str, Any] = {
        "training.updates": 700,
        "training.adam_epsilon": 1e-8,  # YAML 1.1 takes 1e-08 for a text
        "languages.target": "no",  # and a bare no for false
        "download.corpora": ["one", "yes"],
        "compute.threads": 2,
        "training.checkpoint_every_minutes": None,
    }
    text, params = overridden(original, "params.yaml", overrides)
    for key, value in overrides.items():
        section, name = key.split(".")
        assert getattr(getattr(params, section), name) == value
    (tmp_path / "params.yaml").write_text(text)
    assert load_params(tmp_path / "params.yaml") == params
    lines, changed = original.splitlines(), text.splitlines()
    assert len(lines) == len(changed)
    different = [(old, new) for old, new in zip(lines, changed, strict=True) if old != new]
    assert {old.split(":")[0].strip() for old, _ in different} <= {key.split(".")[1] for key in overrides}
    for old, new in different:
        assert old.partition("#")[2] == new.partition("#")[2]


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        ({"training.update": 1}, "overrides: training.update is not a key; allowed here: seed, updates, "),
        ({"train.updates": 1}, "overrides: train.updates is not a key; allowed here: languages, download, "),
        ({"training.updates.x": 1}, "overrides: training.updates.x is not a key; allowed here: seed, updates, "),
        ({"training": {"updates": 1}}, "overrides: training is a section: name one of its keys, as training.seed"),
        ({"training.updates": 0}, "training.updates = 0: input should be greater than or equal to 1"),
        ({"training.updates": "7"}, "training.updates = '7': input should be a valid integer"),
        ({"model.norm": "none"}, "model.norm = 'none': input should be 'post' or 'pre'"),
        ({"training.updates": [1]}, "training.updates = [1]: input should be a valid integer"),
    ],
)
def test_wrong_overrides_are_refused_in_one_line(overrides: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ParamsError) as raised:
        overridden(PRESETS[0].read_text(), "params.yaml", overrides)
    assert complaint in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_broken_preset_is_named() -> None:
    for text, complaint in (
        ("a: [", "p.yaml, line 2: not YAML"),
        ("7", "p.yaml must hold the sections"),
        ("a: 1", "p.yaml: "),
    ):
        with pytest.raises(ParamsError, match=complaint):
            overridden(text, "p.yaml", {})


def test_all_is_checked_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.checkout.git import git
    from flows.retraining.flow import retraining

    (tmp_path / "params.yaml").write_text(PRESETS[0].read_text())
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "corpora.yaml").write_text((CHECKOUT / "data" / "corpora.yaml").read_text())
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "-c", "user.name=u", "-c", "user.email=u@example.org", "commit", "--quiet", "-m", "params")
    monkeypatch.chdir(tmp_path)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"revision": "no-such"}, "revision: 'no-such' is not a commit"),
        ({"preset": "no-such"}, "presets/no-such.yaml is not in"),
        (
            {"overrides": {"training.update": 1}},
            r"training.update is not a key.*did you mean training.updates",
        ),
        ({"overrides": {"averaging.count": 50}}, "averaging.count = 50: training.keep_last = 5 keeps too few"),
        (
            {"overrides": {"evaluation.test_sets": ["typo"]}},
            "evaluation.test_sets: interface-strings has no test set",
        ),
        ({"overrides": {"download.corpora": ["multi30"]}}, "has no corpus 'multi30'.*did you mean multi30k"),
        ({"overrides": {"compute.device": "mps"}}, "compute.device = 'mps'"),
        ({"overrides": {"decoding.device": "mps"}}, "decoding.device = 'mps': device 'mps' is not available here"),
    ]
    for parameters, complaint in wrong:
        with pytest.raises(ParamsError, match=complaint):
            retraining.fn(**parameters)
    assert not (tmp_path / "work").exists()
    assert "retraining" not in git(tmp_path, "branch", "--list", "--all")
