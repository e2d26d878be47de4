"""COMET through a Python of its own, here one with a stand-in for unbabel-comet."""

import json
import os
import sys
from hashlib import sha256
from pathlib import Path

import pytest
from tiny_inputs import TINY_PARAMS

from transformer.errors import DataError, ParamsError
from transformer.evaluation.comet_score import check_comet, comet_score
from transformer.params import EvaluationParams

# Scores by shared words, from weights that it reads from the checkpoint, and refuses to go online.
STAND_IN = """
import json, os
from types import SimpleNamespace

def load_from_checkpoint(path, reload_hparams=False, strict=False, local_files_only=False):
    assert local_files_only and os.environ["HF_HUB_OFFLINE"] == "1"
    print("a library that prints to stdout")
    return Model(**json.load(open(path)))

class Model:
    def __init__(self, weight):
        self.weight = weight
    def predict(self, samples, batch_size=16, gpus=1, progress_bar=True):
        assert gpus == 0
        scores = [self.weight * len(set(one["mt"].split()) & set(one["ref"].split())) for one in samples]
        assert [one["src"] for one in samples] == ["eins zwei", "dré"]
        return SimpleNamespace(scores=scores, system_score=sum(scores) / len(scores))
"""


@pytest.fixture
def evaluation(tmp_path: Path) -> EvaluationParams:
    """Params that name a checkpoint and a Python in which `comet` is the stand-in."""
    site = tmp_path / "site"
    (site / "unbabel_comet-9.9.dist-info").mkdir(parents=True)
    (site / "unbabel_comet-9.9.dist-info" / "METADATA").write_text("Name: unbabel-comet\nVersion: 9.9\n")
    (site / "comet.py").write_text(STAND_IN)
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_text(json.dumps({"weight": 0.25}))
    given = {**TINY_PARAMS["evaluation"], "comet_checkpoint": str(checkpoint), "comet_python": str(python)}
    return EvaluationParams.model_validate(given)


def test_the_score_and_what_computed_it(evaluation: EvaluationParams) -> None:
    check_comet(evaluation)
    score = comet_score(["eins zwei", "dré"], ["one two", "three"], ["one two", "four"], evaluation, on_gpu=False)
    assert score.value == 0.25  # (0.25 x 2 + 0) / 2
    digest = sha256(json.dumps({"weight": 0.25}).encode()).hexdigest()
    assert score.signature == f"model:model.ckpt|sha256:{digest}|version:9.9"


def test_failures_are_one_line(evaluation: EvaluationParams, tmp_path: Path) -> None:
    (tmp_path / "site" / "comet.py").unlink()
    with pytest.raises(
        DataError, match=r"^COMET failed in .*python: ModuleNotFoundError: .*pip install unbabel-comet$"
    ):
        comet_score(["a"], ["b"], ["c"], evaluation, on_gpu=False)
    os.unlink(evaluation.comet_checkpoint or "")
    with pytest.raises(ParamsError, match=r"^evaluation\.comet_checkpoint = '.*model\.ckpt': there is no such file$"):
        check_comet(evaluation)
    with pytest.raises(ParamsError, match=r"comet_python is given, but evaluation\.comet_checkpoint is null"):
        check_comet(evaluation.model_copy(update={"comet_checkpoint": None}))
