"""Which translations count: those that the evaluation left, byte for byte, and those committed of the same tests."""

import json
import shutil
from pathlib import Path

import pytest
from workspace import Workspace

from flows.promotion.translate import Search
from flows.promotion.translations import committed, evaluated, search_of
from transformer.errors import DataError
from transformer.params import load_params

SETS = ["tiny-test"]


@pytest.fixture
def checkout(reproduced: Workspace, tmp_path: Path) -> Path:
    """What is left of a finished pipeline that the gate reads."""
    shutil.copytree(reproduced.folder / "reports", tmp_path / "reports")
    shutil.copy(reproduced.folder / "dvc.lock", tmp_path)
    return tmp_path


def test_the_candidates_translations_are_those_of_its_evaluation(checkout: Path) -> None:
    assert len(evaluated(checkout, SETS)["tiny-test"].hypotheses) == 30
    path = checkout / "reports" / "translations" / "tiny-test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(f"{json.dumps({**row, 'hypothesis': row['reference']})}\n" for row in rows))
    with pytest.raises(
        DataError, match=r"reports/translations is \w+\.dir and dvc.lock names \w+\.dir: run dvc repro"
    ):
        evaluated(checkout, SETS)


def test_committed_translations_count_for_the_same_test_set_only(reproduced: Workspace, checkout: Path) -> None:
    tests = evaluated(checkout, SETS)
    then = committed(reproduced.folder, "HEAD", checkout, tests)
    assert then == tests
    assert committed(reproduced.folder, "HEAD~1", checkout, tests) is None  # nothing was committed yet
    record = checkout / "reports" / "lineage" / "evaluate.json"
    content = json.loads(record.read_text())
    for one in content["inputs"]:
        if one["path"] == "data/corpus/test.parquet":
            one["sha256"] = "0" * 64
    record.write_text(json.dumps(content))
    assert committed(reproduced.folder, "HEAD", checkout, tests) is None


def test_the_precision_is_that_of_the_evaluation(reproduced: Workspace, checkout: Path) -> None:
    params, tests = load_params(reproduced.folder / "params.yaml"), evaluated(checkout, SETS)
    assert search_of(checkout, params) == Search("fp32", "cpu")
    elsewhere = params.model_copy(update={"decoding": params.decoding.model_copy(update={"device": "cuda"})})
    assert search_of(checkout, elsewhere).device == "cuda"

    metrics = checkout / "reports" / "metrics.json"
    scores = json.loads(metrics.read_text())
    metrics.write_text(json.dumps({**scores, "precision": "bf16"}))
    assert search_of(checkout, params).precision == "bf16"
    assert committed(reproduced.folder, "HEAD", checkout, tests) is None

    del scores["precision"]  # from before it was a setting: the record of the evaluation has it
    metrics.write_text(json.dumps(scores))
    assert search_of(checkout, params).precision == "fp32"
    assert committed(reproduced.folder, "HEAD", checkout, tests) == tests
    for broken in ("", "[]", json.dumps({**scores, "precision": "fp8"})):
        metrics.write_text(broken)
        with pytest.raises(DataError, match=r"in which precision .* is unknown .*: run dvc repro --force evaluate"):
            search_of(checkout, params)
