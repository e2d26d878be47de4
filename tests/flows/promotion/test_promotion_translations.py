"""Which translations count: those that the evaluation left, byte for byte, and those committed of the same tests."""

import json
import shutil
from pathlib import Path

import pytest
from workspace import Workspace

from flows.promotion.translations import committed, evaluated
from transformer.errors import DataError

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
