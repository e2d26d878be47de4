"""Damaged input of every kind: no crash, no hang, one line, and no file outside the folder asked for.

FUZZ_SECONDS (default 4) is how long each reader is tried; FUZZ_SEED chooses the damage.
"""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_inputs import CHECKOUT

SUPPORT = CHECKOUT / "tests" / "support"
SECONDS = float(os.environ.get("FUZZ_SECONDS", "4"))
SEED = os.environ.get("FUZZ_SEED", str(random.SystemRandom().randrange(10**6)))
WHAT = {
    "readers": "text, TSV, JSON lines, Parquet, TMX, XLIFF, PO, SGM, WMT's XML and catalogues, plain and compressed",
    "archives": "tar and zip archives with links, devices, `../x` and absolute names",
    "params": "params.yaml",
    "registry": "data/corpora.yaml",
    "records": "lineage records, dvc.yaml, parts.json",
    "spools": "records that wait for MLflow",
    "models": "model folders",
}


@pytest.mark.slow
@pytest.mark.parametrize("target", WHAT)
def test_damaged_input_ends_in_one_line(promised, tmp_path: Path, target: str) -> None:
    promise = promised(
        f"Damaged {WHAT[target]}: one line, no crash, no hang, no file outside the folder asked for",
        "random damage to valid input: bits, bytes, pieces gone, doubled, put in, cut off",
    )
    done = subprocess.run(
        [sys.executable, SUPPORT / "fuzzing.py", target, str(SECONDS), SEED, tmp_path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=SECONDS + 120,
    )
    where = (tmp_path / "seed").read_text() if (tmp_path / "seed").exists() else "before the first input"
    assert done.returncode == 0, f"{where} (input in {tmp_path}): status {done.returncode}\n{done.stderr[-3000:]}"
    promise.held(int(done.stdout.splitlines()[-1]))
