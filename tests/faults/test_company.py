"""Two at the same work: the second one waits or is told so in a line, and the results are those of one alone."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from faulty_checkout import FAULTS, MADE, Checkout, Ended

from flows.records.hashes import hash_file
from transformer.files import files_below

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
REPRO = ["sh", "-c", f"{sys.executable} -m flows.stages && {sys.executable} -m dvc --wait-for-lock repro --force"]
FLOW = [sys.executable, "-m", "flows.pipeline"]
BUSY = ("busy", "in use", "Unable to acquire lock")


def together(*started: tuple[Checkout, list[str]]) -> list[Ended]:
    """Run commands at the same time, each in a process group of its own."""
    processes = [
        subprocess.Popen(
            command, cwd=checkout.folder, env=checkout.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, start_new_session=True,
        )
        for checkout, command in started
    ]  # fmt: skip
    ends = []
    try:
        for process in processes:
            printed, _ = process.communicate(timeout=600)
            ends.append(Ended(process.returncode, printed))
    finally:
        for process in processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return ends


def everything(checkout: Checkout) -> dict[str, dict[str, str]]:
    return {stage: checkout.made(stage) for stage in MADE}


def forget_all(checkout: Checkout) -> None:
    for stage in MADE:
        checkout.forget(stage)


def ended_well(ended: Ended) -> bool:
    """Succeeded; if not, it must have said that somebody else is at work."""
    assert "Traceback" not in ended.printed, ended.printed
    assert ended.status == 0 or any(words in ended.printed for words in BUSY), ended.printed
    return ended.status == 0


def lose_nothing(checkout: Checkout, expected: dict[str, dict[str, str]], ends: list[Ended]) -> None:
    """One of those that ran together succeeded, and what there is in the end is what one alone makes."""
    good = [ended_well(ended) for ended in ends]  # each is looked at
    assert True in good, ends
    assert checkout.ended([sys.executable, "-m", "dvc", "repro"]).status == 0
    assert everything(checkout) == expected


def test_two_repros(promised, checkout: Checkout) -> None:
    promise = promised(
        "Two `dvc repro` in one checkout lose nothing", "started together; the second waits or is told"
    )
    expected = everything(checkout)
    for _ in range(max(1, FAULTS // 2)):
        forget_all(checkout)
        lose_nothing(checkout, expected, together((checkout, REPRO), (checkout, REPRO)))
        promise.held()


def test_a_repro_beside_the_flow(promised, checkout: Checkout, prefect_database: Path) -> None:
    promise = promised("`dvc repro` beside the Prefect flow loses nothing", "started together in one checkout")
    home = Path(checkout.environment["PREFECT_HOME"])
    home.mkdir()
    (home / "prefect.db").write_bytes(prefect_database.read_bytes())
    expected = everything(checkout)
    forget_all(checkout)
    for stage in MADE:
        checkout.run("rm", "-rf", *MADE[stage])
    lose_nothing(checkout, expected, together((checkout, FLOW), (checkout, REPRO)))
    promise.held()


def test_two_checkouts_with_one_cache(promised, checkout: Checkout, tmp_path: Path) -> None:
    promise = promised(
        "Two checkouts that share DVC's cache get the same bytes, and no object is half", "started together"
    )
    expected = everything(checkout)
    other = checkout.copy_to(tmp_path / "other")
    other.dvc("cache", "dir", "--local", str(checkout.folder / ".dvc" / "cache"))
    for _ in range(max(1, FAULTS // 2)):
        for one in (checkout, other):
            forget_all(one)
        for path in files_below(checkout.folder / ".dvc" / "cache" / "files"):
            path.unlink()
        for ended in together((checkout, REPRO), (other, REPRO)):
            assert ended.status == 0, ended.printed
        assert everything(checkout) == expected
        assert everything(other) == expected
        objects = files_below(checkout.folder / ".dvc" / "cache" / "files")
        assert objects
        assert [path for path in objects if hash_file(path).md5 != (path.parent.name + path.stem)] == []
        promise.held()
