"""What a stage really ran is in its record: code that was edited for the run only is found, wherever it lies."""

import base64
import hashlib
import json
import marshal
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import MAGIC_NUMBER, cache_from_source
from pathlib import Path

import pytest
from tampered_project import restore
from workspace import Workspace

from flows.lineage.cli import main
from flows.records.record import digest_of

RUNNER = "flows/stages/runner.py"  # which every stage runs and none depends on
CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def finished(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    made = reproduced.copy_to(tmp_path_factory.mktemp("executed") / "checkout")
    made.copy_to(made.folder.parent / "pristine")
    return made


@pytest.fixture
def project(finished: Workspace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workspace]:
    """A finished project, current folder of this process, put back after the test."""
    finished.enter(monkeypatch)
    yield Workspace(finished.folder)
    restore(finished.folder.parent / "pristine", finished.folder)


def run_again(project: Workspace, *, commit: bool = True) -> str:
    """Run the quickest stage once more and commit what it left."""
    told = project.dvc("repro", "--force", "--single-item", "parent")
    project.send()
    if commit:
        project.git("add", "dvc.lock", "reports")
        project.git("commit", "-qm", "once more")
    return told


def verified(capsys: pytest.CaptureFixture[str], *target: str) -> tuple[int, str]:
    capsys.readouterr()
    status = main(["verify", *target])
    return status, capsys.readouterr().out


def edit(project: Workspace, path: str, more: str) -> str:
    file = project.folder / path
    original = file.read_text()
    file.write_text(original + more)
    return original


def test_honest_runs_of_the_committed_code_are_clean(project: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    run_again(project)
    status, lines = verified(capsys, "--html", "page.html")
    assert (status, "BROKEN" in lines.replace("0 BROKEN", "")) == (0, False), lines
    ok = lines.split(" ok, ")[0]
    assert f">{ok} ok</span>" in (project.folder / "page.html").read_text()


def test_a_module_that_puts_itself_back_as_it_runs_is_known_by_what_was_run(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    original = (project.folder / RUNNER).read_text()
    (project.folder / "original").write_text(original)
    edit(project, RUNNER, "\nPath(__file__).write_text(Path('original').read_text())\nprint('the cheat ran')\n")
    assert "the cheat ran" in run_again(project)
    (project.folder / "original").unlink()
    assert (project.folder / RUNNER).read_text() == original
    assert project.git("status", "--porcelain") == ""
    status, lines = verified(capsys)
    assert status == 2
    assert f"parent: imported code (git {project.git('rev-parse', 'HEAD~1')[:10]}) BROKEN: {RUNNER}: ran as" in lines
    assert verified(capsys, "HEAD")[0] == 2


def test_bytecode_of_another_source_is_not_run(project: Workspace) -> None:
    """Python takes a .pyc file for that of a source with its time and size."""
    source = project.folder / RUNNER
    stat = source.stat()
    compiled = compile("print('forged')\n" + source.read_text(), str(source), "exec")
    pyc = Path(cache_from_source(str(source)))
    pyc.parent.mkdir(exist_ok=True)
    head = MAGIC_NUMBER + struct.pack("<III", 0, int(stat.st_mtime), stat.st_size)
    pyc.write_bytes(head + marshal.dumps(compiled))
    taken = [sys.executable, "-c", f"import {RUNNER.removesuffix('.py').replace('/', '.')}"]
    told = subprocess.run(taken, cwd=project.folder, env=project.environment, capture_output=True, text=True)
    assert "forged" in told.stdout, "Python itself does not take it any more: this test shows nothing"
    assert "forged" not in run_again(project, commit=False)


def test_an_edit_is_no_break_before_it_is_committed_nor_after(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(project, RUNNER, "\n# a note\n")
    run_again(project, commit=False)
    status, lines = verified(capsys)
    assert (status, f"{RUNNER}: not committed yet" in lines) == (1, True), lines
    project.git("commit", "-qam", "a note and its results")
    status, lines = verified(capsys)
    assert "parent: imported code" not in lines, lines
    assert status == 0


def test_an_edit_that_is_undone_before_the_results_are_committed_is_found(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    original = edit(project, RUNNER, "\n# a cheat\n")
    run_again(project, commit=False)
    (project.folder / RUNNER).write_text(original)
    status, lines = verified(capsys)
    assert (status, f"BROKEN: {RUNNER}: ran as neither git nor the workspace has it" in lines) == (2, True), lines


def test_code_that_no_dependency_names_is_found(project: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    (project.folder / "transformer" / "scoring.py").write_text("BETTER = 1\n")
    edit(project, RUNNER, "\nimport transformer.scoring\n")
    project.git("add", ".")
    project.git("commit", "-qm", "a way around")
    run_again(project)
    status, lines = verified(capsys)
    words = "parent: imported code (dvc.yaml) BROKEN: transformer/scoring.py: ran, and parent does not depend on it"
    assert (status, words in lines) == (2, True), lines


def test_later_edits_of_what_decides_no_output_are_named_and_no_break(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(project, RUNNER, "\n# later\n")
    status, lines = verified(capsys)
    assert (status, f"evaluate: imported code (workspace) changed: {RUNNER}: another one today" in lines) == (0, True)
    assert " 8 changed" in lines.splitlines()[-1]
    assert "changed" not in verified(capsys, "HEAD")[1]


def test_code_from_elsewhere_is_named(project: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "usercustomize.py").write_text("import sys\nsys.modules.pop('usercustomize')\n")
    project.environment["PYTHONPATH"] = str(tmp_path)
    run_again(project)
    status, lines = verified(capsys)
    words = (
        f"parent: code from elsewhere (git, packages) missing: {tmp_path}/usercustomize.py: ran, and is in no commit"
    )
    assert (status, words in lines) == (1, True), lines


def test_a_record_stripped_of_what_ran_is_found(project: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    path = project.folder / "reports" / "lineage" / "parent.json"
    record = json.loads(path.read_text())
    del record["executed"], record["digest"]
    path.write_text(json.dumps({**record, "executed": None, "digest": digest_of(record)}))
    project.git("commit", "-qam", "forged")
    status, lines = verified(capsys)
    assert (status, "parent: record (workspace and commit " in lines) == (2, True), lines
    assert "expected the modules that ran found none" in lines


def test_a_package_that_was_edited_after_its_installation_is_found(tmp_path: Path) -> None:
    """`wheel`'s own list of hashes is the oracle; the package is made here, as those of the tests are shared."""
    source = b"SCORE = 33.2\n"
    coded = base64.urlsafe_b64encode(hashlib.sha256(source).digest()).rstrip(b"=").decode()
    (tmp_path / "scoring.py").write_bytes(source)
    (tmp_path / "scoring-1.dist-info").mkdir()
    (tmp_path / "scoring-1.dist-info" / "METADATA").write_text("Name: scoring\nVersion: 1\n")
    (tmp_path / "scoring-1.dist-info" / "RECORD").write_text(f"scoring.py,sha256={coded},13\n")
    program = """
import scoring
from importlib.metadata import distributions
from flows.records.installed import installed_files, strangers
print(strangers(installed_files(distributions())))
"""

    def found() -> str:
        environment = os.environ | {"PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tmp_path}"}
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=CHECKOUT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    assert found() == "({}, {})"
    (tmp_path / "scoring.py").write_bytes(source + b"SCORE = 99\n")
    changed = hashlib.sha256(source + b"SCORE = 99\n").hexdigest()
    assert found() == str(({str(tmp_path / "scoring.py"): changed}, {}))


@pytest.mark.parametrize("with_mlflow", [True, False])
def test_forged_scores_with_a_forged_lock_are_found(
    project: Workspace, capsys: pytest.CaptureFixture[str], with_mlflow: bool
) -> None:
    metrics, lock = project.folder / "reports" / "metrics.json", project.folder / "dvc.lock"
    former = hashlib.md5(metrics.read_bytes()).hexdigest()
    metrics.write_text(metrics.read_text().replace('"bleu"', '"BLEU"', 1) + " ")
    lock.write_text(lock.read_text().replace(former, hashlib.md5(metrics.read_bytes()).hexdigest()))
    project.git("commit", "-qam", "better scores")
    store, away = project.folder / "mlflow.db", project.folder / ".git" / "mlflow.db"
    if not with_mlflow:
        store.rename(away)
    status, lines = verified(capsys)
    if not with_mlflow:
        away.rename(store)
    words = "evaluate: outputs (the record of the same inputs, workspace) BROKEN: "
    assert (status, words in lines) == (2, True), lines


def test_replaced_objects_of_git_do_not_count(project: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    blob = project.git("rev-parse", f"HEAD:{RUNNER}").strip()
    project.git("replace", blob, project.git("rev-parse", "HEAD:params.yaml").strip())
    assert project.git("show", f"HEAD:{RUNNER}").startswith("languages:")  # git itself is deceived
    status, lines = verified(capsys)
    assert status == 0, lines


def test_a_cheat_that_was_committed_and_taken_out_is_found_by_making_the_outputs_again(
    project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    cheat = """

_honest = write_json


def write_json(path, content):
    _honest(path, content)
    if "parent" in str(path) and "lineage" not in str(path):
        with open(path, "a") as stream:
            stream.write(" ")
"""
    original = edit(project, "transformer/files.py", cheat)
    project.git("commit", "-qam", "a cheat")
    before = (project.folder / "dvc.lock").read_text()
    run_again(project)
    assert (project.folder / "dvc.lock").read_text() != before, "the cheat changed no output"
    (project.folder / "transformer" / "files.py").write_text(original)
    project.git("commit", "-qam", "as if nothing had been")
    status, lines = verified(capsys, "models/parent")
    assert "parent: imported code (workspace) changed: transformer/files.py: another one today" in lines
    assert status == 0, lines
    assert main(["reproduce", "models/parent"]) == 2
    told = capsys.readouterr()
    assert "parent: models/parent (reproduced) ok" in told.out
    assert "parent: models/parent (reproduced at HEAD) BROKEN: expected" in told.out
    assert "1 modules that decide no output are others at HEAD: once more, at " in told.err
