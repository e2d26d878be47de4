"""What a stage leaves on disk, and who may be taken for dead."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from flows.checkout.workspace import main_workspace, tracking_uri
from flows.records.execution import named_params
from flows.records.nested_keys import as_texts
from flows.records.provenance import code_state, pipeline_id
from flows.records.tags import code_tags
from flows.tracking.problem import clear_problem, problem_to_tell, report_problem
from flows.tracking.spool import DAMAGED, EVENTS_FILE, POSITION_FILE, Position, Spool
from flows.tracking.system_metrics import SystemMetrics
from transformer.params import Params


def test_events_come_back_in_order_and_from_any_offset(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "train")
    spool.start(uri="sqlite:///x", experiment="e")
    for step in range(3):
        spool.append("metrics", step=step, values={"loss": 1.5})
    read = list(spool.events(0))
    assert [event["event"] for event, _ in read] == ["start", "metrics", "metrics", "metrics"]
    assert [event["step"] for event, _ in spool.events(read[1][1])] == [1, 2]


def test_half_a_line_is_left_for_later(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "train")
    spool.start(uri="x")
    with (spool.folder / EVENTS_FILE).open("a") as stream:
        stream.write('{"event": "metr')
    assert [event["event"] for event, _ in spool.events(0)] == ["start"]


def test_a_changed_digit_of_a_record_or_of_what_was_sent_is_noticed(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "train")
    spool.append("metrics", step=1, values={"loss": 1.5, 10: 0, 9: 0})
    spool.append("metrics", step=2, values={"loss": 1.25, 10: 0, 9: 0})
    assert [event["event"] for event, _ in spool.events(0)] == ["metrics", "metrics"]
    spool.set_position(Position(spool.address(), offset=17))
    assert spool.position().offset == 17
    for name, old, new in ((EVENTS_FILE, "1.5,", "1.7,"), (POSITION_FILE, " 17,", " 97,")):
        text = (spool.folder / name).read_text()
        assert text.count(old) == 1
        (spool.folder / name).write_text(text.replace(old, new))
    assert [event["event"] for event, _ in spool.events(0)] == [DAMAGED, "metrics"]
    assert spool.position().offset == 0  # all is sent again


@pytest.mark.parametrize("pid", ["1e999", "1" * 30, "-5", "[]"])
def test_a_writer_whose_number_is_none_is_not_live(tmp_path: Path, pid: str) -> None:
    spool = Spool.create(tmp_path, "train")
    writer = f'{{"pid": {pid}, "created": 1.0, "host": "{socket.gethostname()}"}}'
    (spool.folder / EVENTS_FILE).write_text(f'{{"event": "start", "time": 1, "writer": {writer}}}\n')
    assert not spool.is_live()


def test_kept_folders_share_the_bytes_and_leave_out_byte_code(tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "__pycache__").mkdir(parents=True)
    (model / "__pycache__" / "x.pyc").write_bytes(b"x")
    (model / "weights").write_bytes(b"w" * 100)
    spool = Spool.create(tmp_path / "tracking", "average")
    spool.keep(model, "model")
    assert (spool.kept("model") / "weights").samefile(model / "weights")
    assert not (spool.kept("model") / "__pycache__").exists()


def test_the_writer_is_live_until_its_process_is_gone(tmp_path: Path) -> None:
    program = (
        "import sys, time\nfrom pathlib import Path\nfrom flows.tracking.spool import Spool\n"
        "Spool.create(Path(sys.argv[1]), 'train').start(uri='x')\nprint('ready', flush=True)\ntime.sleep(60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    spool = Spool.waiting(tmp_path)[0]
    assert spool.is_live()
    child.kill()
    child.wait()
    assert not spool.is_live()


def test_another_process_with_the_same_number_is_not_the_writer(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "train")
    spool.start(uri="x")
    assert spool.is_live()
    events = (spool.folder / EVENTS_FILE).read_text()
    (spool.folder / EVENTS_FILE).unlink()
    event = json.loads(events)
    writer = event["writer"] | {"created": event["writer"]["created"] - 100}
    spool.append("start", uri="x", writer=writer)
    assert not spool.is_live()


def test_a_writer_on_another_host_counts_as_live(tmp_path: Path) -> None:
    spool = Spool.create(tmp_path, "train")
    spool.append("start", uri="x", writer={"pid": 999_999_999, "created": 0.0, "host": "elsewhere"})
    assert spool.is_live()


def test_an_outage_is_told_once_and_the_next_outage_again(tmp_path: Path) -> None:
    report_problem(tmp_path, "away")
    assert problem_to_tell(tmp_path) == "away"
    report_problem(tmp_path, "still away")
    assert problem_to_tell(tmp_path) is None
    clear_problem(tmp_path)
    report_problem(tmp_path, "away again")
    assert problem_to_tell(tmp_path) == "away again"


def test_an_experiment_in_a_copy_records_into_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / ".dvc" / "tmp" / "exps" / "tmpabc"
    copy.mkdir(parents=True)
    monkeypatch.chdir(copy)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main_workspace() == tmp_path.resolve()
    assert tracking_uri() == f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere:5000")
    assert tracking_uri() == "http://elsewhere:5000"


def test_system_metrics_have_the_names_of_mlflows_own_monitor() -> None:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    expected: set[str] = set()
    for monitor in (CPUMonitor(), DiskMonitor(), NetworkMonitor()):
        monitor.collect_metrics()
        expected |= {f"system/{name}" for name in monitor.aggregate_metrics()}
    samples: list[dict[str, float]] = []
    SystemMetrics(lambda _, sample: samples.append(sample)).stop()
    (sample,) = samples
    assert expected <= set(sample)
    assert sample["system/system_memory_usage_megabytes"] == pytest.approx(
        psutil.virtual_memory().used / 1e6, rel=0.3
    )


def test_params_of_a_stage_are_the_leaves_of_its_sections(tiny_params: Params) -> None:
    flat = as_texts(named_params(tiny_params, ["averaging", "training.seed"]))
    assert flat == {
        "averaging.rule": "last",
        "averaging.count": "2",
        "averaging.at_least": "1",
        "averaging.minutes_apart": "1.0",
        "averaging.min_updates_apart": "5",
        "training.seed": "1",
    }


def _git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_only_code_makes_a_checkout_dirty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert code_tags(code_state())["git.commit"] == "no git"
    (tmp_path / "reports").mkdir()
    for name in ("code.py", "dvc.lock", "reports/metrics.json"):
        (tmp_path / name).write_text("1\n")
    _git(tmp_path, "init", "-b", "main")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "first")
    tags = code_tags(code_state())
    assert (len(tags["git.commit"]), tags["git.branch"], tags["git.dirty"]) == (40, "main", "false")
    (tmp_path / "dvc.lock").write_text("2\n")
    (tmp_path / "reports" / "metrics.json").write_text("2\n")
    assert code_tags(code_state())["git.dirty"] == "false"
    (tmp_path / "code.py").write_text("2\n")
    assert code_tags(code_state())["git.dirty"] == "true"


def test_a_folder_inside_another_repository_has_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _git(tmp_path, "init", "-b", "main")
    inner = tmp_path / "unpacked"
    inner.mkdir()
    monkeypatch.chdir(inner)
    assert code_tags(code_state())["git.dirty"] == "no git"


def test_a_stage_by_hand_is_a_pipeline_of_its_own() -> None:
    assert pipeline_id().endswith(f"-{os.getpid()}")
