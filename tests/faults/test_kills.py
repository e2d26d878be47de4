"""SIGKILL at random moments of every stage, and of DVC around it: the next start ends with the same bytes."""

import random
import signal
import sys
from pathlib import Path

import pytest
from faulty_checkout import FAULTS
from workspace import STAGES

pytestmark = pytest.mark.slow


def pairs_of_kills(operations: str, seconds: str, random_: random.Random) -> list[tuple[dict[str, str], ...]]:
    """Kills two by two: one before a random file operation, one a random time after the first operation."""
    return [
        (
            {"KILL_AT": str(random_.randint(1, int(operations)))},
            {"KILL_AFTER": str(random_.uniform(0.001, float(seconds)))},
        )
        for _ in range(-(-FAULTS // 2))
    ]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("process", ["stage", "dvc"])
def test_a_killed_stage_ends_with_the_same_bytes(
    checkout, promised, tmp_path: Path, stage: str, process: str
) -> None:
    where = "the stage and its workers" if process == "stage" else "DVC and the stage under it"
    promise = promised(
        f"`{stage}`, killed by SIGKILL and started again, ends with the bytes of an uninterrupted run",
        f"{where}, twice in a row: before a random file operation, then after a random time",
    )
    module = f"flows.stages.{stage}" if process == "stage" else "dvc"
    expected = checkout.made(stage)
    checkout.forget(stage)
    planned = tmp_path / "operations"
    assert checkout.once_more(stage, FAULT_PROCESS=module, OPERATIONS_TO=str(planned)).status == 0
    assert checkout.made(stage) == expected

    killed = 0
    for pair in pairs_of_kills(*planned.read_text().split(), random.Random(f"{stage} {process}")):
        checkout.forget(stage)
        ends = [checkout.once_more(stage, FAULT_PROCESS=module, **kill).status for kill in pair]
        again = checkout.ended([sys.executable, "-m", "dvc", "repro", "--single-item", stage])
        assert again.status == 0, f"after {pair}: {again.printed}"
        assert checkout.made(stage) == expected, pair
        killed += ends.count(-signal.SIGKILL)
        promise.held(ends.count(-signal.SIGKILL))
    assert killed
