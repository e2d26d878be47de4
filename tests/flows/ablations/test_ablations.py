"""Table 3 at the paper's own size against its printed values; a queue that DVC really runs, in a tiny checkout."""

import copy
import json
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from tiny_inputs import CHECKOUT, TINY_PARAMS
from workspace import Workspace

from flows.ablations.queue import overrides
from flows.ablations.table3 import Ablation, ablations
from flows.records.nested_keys import flatten
from transformer.model.transformer import Transformer
from transformer.params import params_from
from transformer.yaml12 import read_yaml

PRESETS = sorted(path.stem for path in (CHECKOUT / "presets").glob("*.yaml"))


def of_preset(name: str) -> tuple[list[Ablation], list[str]]:
    return ablations(yaml.safe_load((CHECKOUT / "presets" / f"{name}.yaml").read_text()), name)


def test_at_the_papers_size_the_changes_are_the_papers() -> None:
    made, left_out = of_preset("wmt14-en-de-base")
    assert left_out == []
    assert [(one.row.letter, one.changes) for one in made] == [
        ("base", {}),
        ("A", {"model.heads": 1}),
        ("A", {"model.heads": 4}),
        ("A", {"model.heads": 16}),
        ("A", {"model.heads": 32}),
        ("B", {"model.key_size": 16}),
        ("B", {"model.key_size": 32}),
        ("C", {"model.encoder_layers": 2, "model.decoder_layers": 2}),
        ("C", {"model.encoder_layers": 4, "model.decoder_layers": 4}),
        ("C", {"model.encoder_layers": 8, "model.decoder_layers": 8}),
        ("C", {"model.d_model": 256}),
        ("C", {"model.d_model": 1024}),
        ("C", {"model.d_ff": 1024}),
        ("C", {"model.d_ff": 4096}),
        ("D", {"model.dropout": 0.0}),
        ("D", {"model.dropout": 0.2}),
        ("D", {"training.label_smoothing": 0.0}),
        ("D", {"training.label_smoothing": 0.2}),
        ("E", {"model.positions": "learned"}),
    ]


def test_parameters_are_the_papers() -> None:
    """At the 41 000 pieces with which all of the printed counts agree; see tests/transformer/model/test_model.py."""
    for one in of_preset("wmt14-en-de-base")[0]:
        if one.row.paper.millions is not None:
            with torch.device("meta"):
                model = Transformer(params_from(one.params, one.name).model, 41_000)
            millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
            assert millions == pytest.approx(one.row.paper.millions, abs=0.01 * millions + 0.5), one.name


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_has_all_rows(preset: str) -> None:
    made, left_out = of_preset(preset)
    assert left_out == []
    assert len({one.name for one in made}) == 19
    for one in made:
        assert flatten(one.params).items() >= one.changes.items()
        params_from(one.params, one.name)


def test_rows_that_a_size_cannot_tell_apart_are_named() -> None:
    made, left_out = ablations(TINY_PARAMS, "tiny")  # one layer, two heads, no dropout
    assert "C, N = 2: at this size the same as tiny-base" in left_out
    assert "A, h = 4: at this size the same as tiny-A-heads-1" in left_out
    assert "D, dropout 0.2: at this size the same as tiny-base" in left_out
    assert {one.row.letter for one in made} == {"base", "A", "B", "C", "D", "E"}


@pytest.mark.parametrize("value", [None, 3, 0.1, 0.0, 1e-9, "learned", "no", [1, 2], ["a", "b c", "no"], [], "é\"'"])
def test_values_pass_dvcs_set_param_unchanged(value: Any, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides

    path = tmp_path / "params.yaml"
    path.write_text("section:\n  key: 7\n  other: 1.0e-9\n")
    apply_overrides(path, overrides({"section": {"key": 7}}, {"section": {"key": value}}))
    assert read_yaml(path) == {"section": {"key": value, "other": 1e-9}}


def test_what_is_as_wanted_is_not_set() -> None:
    assert overrides({"a": {"b": 1, "c": None}}, {"a": {"b": 1, "c": 2}}) == ["a.c=2"]


@pytest.fixture
def checkout(reproduced: Workspace, tmp_path: Path) -> Workspace:
    """A reproduced tiny checkout, with a preset that differs from its params.yaml."""
    made = reproduced.copy_to(tmp_path / "checkout")
    preset = copy.deepcopy(TINY_PARAMS)
    preset["evaluation"]["bootstrap_samples"] = 101  # so that all but the evaluation of the base is in DVC's cache
    (made.folder / "presets" / "tiny.yaml").write_text(yaml.safe_dump(preset, sort_keys=False))
    made.git("add", ".")
    made.git("commit", "-m", "preset")
    return made


@pytest.mark.slow
def test_the_queue_runs_and_its_results_stand_beside_the_papers(checkout: Workspace) -> None:
    def command(*options: str, succeeds: bool = True) -> str:
        return checkout.run("python", "-m", "flows.ablations", "--preset", "tiny", *options, succeeds=succeeds)

    assert "2 queued, 0 queued or done before" in command("--rows", "E")
    assert "0 queued, 2 queued or done before" in command("--rows", "E")
    assert checkout.git("status", "--porcelain") == ""
    trained = set((checkout.folder / "work" / "training").glob("*/"))
    try:
        checkout.run("dvc", "queue", "start", "--jobs", "1")
        deadline = time.monotonic() + 200
        while checkout.git("for-each-ref", "refs/exps/*/*/*").count("\n") < 2:
            assert time.monotonic() < deadline, checkout.run("dvc", "queue", "status")
            time.sleep(1)
    finally:
        checkout.run("dvc", "queue", "stop", "--kill")
    assert checkout.git("status", "--porcelain") == ""
    # DVC has deleted the experiments' folders; what a killed training would resume from is in the workspace's own.
    assert len(set((checkout.folder / "work" / "training").glob("*/")) - trained) == 1

    assert "tiny-E-positions-learned" in command("--table", "--rows", "E")
    table = pd.read_csv(checkout.folder / "reports" / "ablations.csv").set_index("row")
    assert table.state.tolist() == ["done", "done"]
    base, learned = table.loc["base"], table.loc["E"]
    # 64 learned positions of 32 numbers each
    assert learned.params_millions - base.params_millions == pytest.approx(64 * 32 / 1e6, abs=0.011)
    assert (base.paper_dev_perplexity, base.paper_dev_bleu, base.paper_params_millions) == (4.92, 25.8, 65)
    assert (learned.paper_dev_perplexity, learned.paper_dev_bleu) == (4.92, 25.7)
    for line in (base, learned):
        params = yaml.safe_load(checkout.git("show", f"{line.commit}:params.yaml"))
        assert params["model"]["positions"] == ("learned" if line is learned else "sinusoidal")
        metrics = json.loads(checkout.git("show", f"{line.commit}:reports/metrics.json"))
        assert "|bs:101|" in metrics["test"]["bleu_signature"]
        assert line.test_bleu == metrics["test"]["bleu"]
        curve = checkout.git("show", f"{line.commit}:reports/curves/validation.csv").split()
        update, _, perplexity, _ = curve[-1].split(",")
        assert (int(update), line.valid_perplexity) == (40, round(float(perplexity), 2))
    shown = checkout.run("dvc", "exp", "show", "--csv", "--only-changed")
    assert "tiny-E-positions-learned" in shown

    (checkout.folder / "params.yaml").write_text((checkout.folder / "params.yaml").read_text() + "\n")
    assert command("--rows", "D", succeeds=False).startswith("error: params.yaml is changed: commit first")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--preset", "huge"], "error: huge is not a preset; there are interface-strings, multi30k"),
        (["--rows", "AF"], "error: --rows: Table 3 has the rows A, B, C, D and E, not F"),
    ],
)
def test_wrong_options_are_one_line(options: list[str], told: str, tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "checkout")
    workspace.folder = CHECKOUT  # what DVC leaves beside a checkout stays in the temporary folder
    made = workspace.run("python", "-m", "flows.ablations", *options, succeeds=False)
    assert made.startswith(told)
    assert made.count("\n") == 1
