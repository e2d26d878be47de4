"""Many processes train as one does, whoever of them is killed or stopped, and end in one line when they fail."""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import yaml
from tiny_inputs import CHECKOUT, TINY_PARAMS
from trainings import sections, tiny_tokens
from workspace import tiny_files

from transformer.errors import DataError, DivergedError, ExitCode, InterruptedTrainingError, ParamsError, UserError
from transformer.files import write_json
from transformer.params import Params, params_from
from transformer.tokens.store import TokenSplit
from transformer.tokens.vocabulary import VOCABULARY_FILE
from transformer.training.batching import micro_batches, plan_epoch, usable_sentences
from transformer.training.launch import launch
from transformer.training.ranks import shares
from transformer.training.train import Figures, Paths, train
from transformer.working_folder import working_folder

UPDATES = 24
# A moderate rate and epsilon: Adam must not blow mere rounding, which differs with the order of sums, up to steps.
TRAINING = {
    **TINY_PARAMS["training"],
    "updates": UPDATES,
    "micro_batch_tokens": 100,
    "adam_epsilon": 1e-5,
    "learning_rate_scale": 0.2,
    "log_every": 1,
    "validate_every": 12,
    "checkpoint_every_updates": 4,
}
AVERAGING = {**TINY_PARAMS["averaging"], "min_updates_apart": 4}
TOLERANCE = 1e-4  # of each loss, relative


def params(devices: int = 1, nodes: int = 1, **training: Any) -> Params:
    content = {
        **TINY_PARAMS,
        "model": {**TINY_PARAMS["model"], "dropout": 0.2},
        "training": {**TRAINING, **training},
        "averaging": AVERAGING,
        "compute": {**TINY_PARAMS["compute"], "devices": devices, "nodes": nodes},
    }
    return params_from(content, "test")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tokens(tmp_path_factory.mktemp("ranks"))


def paths(folder: Path, tokens: Path) -> Paths:
    return {
        "tokens": tokens,
        "work": folder / "work",
        "checkpoints": folder / "checkpoints",
        "report": folder / "training.json",
        "curves": folder / "curves",
    }


def losses(folder: Path) -> list[float]:
    return pd.read_csv(folder / "curves" / "training.csv")["loss"].tolist()


def results(folder: Path) -> dict[str, bytes]:
    """All that a finished training leaves and that does not depend on the clock."""
    files = [*(folder / "checkpoints").iterdir(), *(folder / "curves").iterdir()]
    return {path.name: path.read_bytes() for path in files}


def ranks_below() -> list[psutil.Process]:
    """The living ranks that this process has started."""
    found = []
    for child in psutil.Process().children(recursive=True):
        try:
            if "transformer.training.worker" in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.fixture(scope="module")
def alone(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    train(*sections(params()), **paths(folder, tokens), on_figures=lambda figures: None)
    return folder


@pytest.fixture(scope="module")
def four(tokens: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What four ranks make."""
    folder = tmp_path_factory.mktemp("four")
    measured = launch(*sections(params(devices=4)), paths(folder, tokens), lambda record: None)
    write_json(folder / "measured.json", measured)
    return folder


def test_shares_lose_nothing_overlap_nowhere_and_are_even(tokens: Path) -> None:
    """The sentences of all ranks, put together in the order of the pieces, are those of one process."""
    split = TokenSplit.open(tokens, "train")
    training = params().training
    pieces_of = [
        [piece for group in groups for piece in micro_batches(split, group, training.micro_batch_tokens)]
        for groups in plan_epoch(split, usable_sentences(split, 64), training, epoch=0)
    ]
    for pieces in pieces_of:
        costs = [len(piece) * int(split.target.lengths[piece].max()) for piece in pieces]
        for ranks in (1, 2, 4, 16):
            mine = shares(costs, ranks)
            assert sorted(index for share in mine for index in share) == list(range(len(pieces)))
            loads = [sum(costs[index] for index in share) for share in mine]
            assert max(loads) - min(loads) <= max(costs)  # what a greedy division guarantees
    seen = np.concatenate([piece for pieces in pieces_of for piece in pieces])
    assert sorted(seen.tolist()) == list(range(200))


def test_four_ranks_have_the_curve_of_one_process(alone: Path, four: Path) -> None:
    assert losses(four) == pytest.approx(losses(alone), rel=TOLERANCE)
    mine, theirs = (pd.read_csv(folder / "curves" / "validation.csv") for folder in (alone, four))
    assert theirs["loss"].tolist() == pytest.approx(mine["loss"].tolist(), rel=TOLERANCE)
    assert {path.name for path in (four / "checkpoints").iterdir()} == {
        path.name for path in (alone / "checkpoints").iterdir()
    }
    assert json.loads((four / "measured.json").read_text())["world_size"] == 4
    assert (four / "training.json").read_bytes() == (alone / "training.json").read_bytes()


def test_a_killed_rank_changes_no_byte(four: Path, tokens: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    victims: list[int] = []

    def kill(record: Figures) -> None:
        seen.append(record.update)
        if record.update >= 9 and not victims:
            victim = next(rank for rank in ranks_below() if rank.environ()["RANK"] == "2")
            victims.append(record.update)
            victim.send_signal(signal.SIGKILL)

    launch(*sections(params(devices=4)), paths(tmp_path, tokens), kill)
    assert victims[0] < UPDATES
    assert sorted(set(seen)) == list(range(1, UPDATES + 1))
    assert results(tmp_path) == results(four)
    assert not ranks_below()


def test_two_ranks_stopped_go_on_as_one_process(alone: Path, tokens: Path, tmp_path: Path) -> None:
    reached: list[int] = []

    def stop(record: Figures) -> None:
        reached.append(record.update)
        if record.update == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedTrainingError, match=r"SIGTERM: training stopped at update \d+ with its state"):
        launch(*sections(params(devices=2)), paths(tmp_path, tokens), stop)
    assert not ranks_below()
    if max(reached) == UPDATES:
        pytest.fail("the signal came too late to test anything")
    resumed: list[int] = []
    train(*sections(params()), **paths(tmp_path, tokens), on_figures=lambda figures: resumed.append(figures.update))
    assert resumed[0] == max(reached) + 1
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=TOLERANCE)


def test_two_machines_lose_a_rank_and_have_the_curve_of_one_process(
    alone: Path, tokens: Path, tmp_path: Path
) -> None:
    """The machine that leads comes second, and torchrun sorts the other one before it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    asked = params(nodes=2, log_every=1)
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(asked.model_dump(mode="json")))
    script = """
import sys
from pathlib import Path
from transformer.params import load_params
from transformer.training.launch import launch
here, tokens, leads = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3] == "leads"
names = {"work": "work", "checkpoints": "checkpoints", "report": "training.json", "curves": "curves"}
params = load_params(here / "params.yaml")
launch(params.languages, params.model, params.training, params.compute,
       {"tokens": tokens, **{key: here / name for key, name in names.items()}},
       lambda record: print(record.update, flush=True), leads=leads)
"""

    def machine(role: str) -> subprocess.Popen[str]:
        environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-c", script, str(tmp_path), str(tokens), role]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=CHECKOUT, env=environment, stdout=pipe, stderr=pipe, text=True)

    joins = machine("joins")
    leads = machine("leads")
    assert leads.stdout is not None
    while int(leads.stdout.readline()) < 8:
        pass
    victim = next(rank for rank in ranks_below() if rank.ppid() == joins.pid)
    victim.send_signal(signal.SIGKILL)
    _, told = leads.communicate(timeout=100)
    assert leads.returncode == 0
    assert "resuming after update" in told
    assert joins.communicate(timeout=100)[0] == ""
    assert joins.returncode == 0
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=TOLERANCE)


@pytest.mark.parametrize(
    ("problem", "asked", "message"),
    [
        (DivergedError, {"learning_rate_scale": 1e30}, r"the loss became (nan|inf) at update \d+ \(rows "),
        (DataError, {"seed": 2}, r"is in use: another process runs with the same params and data"),
    ],
)
def test_an_error_of_all_ranks_and_one_of_the_first_alone_come_out_in_one_line(
    problem: type[Exception], asked: dict[str, Any], message: str, tokens: Path, tmp_path: Path, capfd: Any
) -> None:
    with ExitStack() as stack:
        if problem is DataError:  # another process holds the folder
            train(
                *sections(params(**asked)),
                **(paths(tmp_path, tokens) | {"checkpoints": tmp_path / "other"}),
                on_figures=print,
            )
            (folder,) = (tmp_path / "work").iterdir()
            stack.enter_context(working_folder(tmp_path / "work", folder.name))
        with pytest.raises(problem, match=message) as raised:
            launch(*sections(params(devices=2, **asked)), paths(tmp_path, tokens), lambda record: None)
    assert "\n" not in str(raised.value)
    assert "Traceback" not in capfd.readouterr().err
    assert not (tmp_path / "checkpoints").exists()


def test_an_unexpected_error_comes_out_in_one_line(tokens: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("transformer.training.launch.RESTARTS", 0)
    places = paths(tmp_path, tokens)
    places["curves"] = tokens / VOCABULARY_FILE / "curves"  # below a file
    with pytest.raises(UserError, match=r"^rank \d failed, .*NotADirectoryError: .*") as raised:
        launch(*sections(params(devices=2)), places, lambda record: None)
    assert "\n" not in str(raised.value)
    assert raised.value.exit_code == ExitCode.FAILURE


def test_a_dying_rank_finishes_its_report(tmp_path: Path) -> None:
    """Torchrun's SIGTERM comes while it is written; half a report would end torchrun."""
    script = """
import os, signal
from torch.distributed.elastic.multiprocessing.errors import ErrorHandler
from transformer.training import worker
record = ErrorHandler.record_exception
def interrupted(handler, error):
    os.kill(os.getpid(), signal.SIGTERM)
    record(handler, error)
ErrorHandler.record_exception = interrupted
worker.main()
"""
    report = tmp_path / "error.json"
    environment = os.environ | {"TORCHELASTIC_ERROR_FILE": str(report), "RANK": "0"}
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], cwd=CHECKOUT, env=environment, check=False)
    assert done.returncode == ExitCode.FAILURE
    assert "job.json" in json.loads(report.read_text())["message"]["message"]


def test_devices_that_are_not_there_are_refused_at_once(tokens: Path, tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"compute\.nodes = 2: MASTER_ADDR and MASTER_PORT must name the first"):
        launch(*sections(params(nodes=2)), paths(tmp_path, tokens), lambda record: None)


def test_the_ranks_end_with_a_killed_stage_and_the_next_one_records_them(tmp_path: Path) -> None:
    workspace = tiny_files(tmp_path / "checkout")
    tiny_tokens(workspace.folder / "data")
    content = {
        **TINY_PARAMS,
        "training": {**TRAINING, "updates": 80},
        "averaging": AVERAGING,
        "compute": {**TINY_PARAMS["compute"], "devices": 2},
    }
    (workspace.folder / "params.yaml").write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "flows.stages.train"]
    stage = subprocess.Popen(
        command, cwd=workspace.folder, env=workspace.environment, stderr=subprocess.PIPE, text=True
    )
    assert stage.stderr is not None
    lines = iter(stage.stderr.readline, "")
    next(line for line in lines if "update 9/" in line)
    ranks = ranks_below()
    assert len(ranks) == 2
    stage.kill()
    assert not psutil.wait_procs(ranks, timeout=20)[1]
    assert "resuming after update" in workspace.run(*command)
    report = json.loads((workspace.folder / "reports" / "training.json").read_text())
    assert report["updates"] == 80
    record = json.loads((workspace.folder / "reports" / "lineage" / "train.json").read_text())
    assert (record["params"]["compute"]["devices"], record["params"]["compute"]["nodes"]) == (2, 1)
    assert "reports/training.json" in {output["path"] for output in record["outputs"]}
