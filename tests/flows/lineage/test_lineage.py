"""Lineage of a real, reproduced project: records, chains, comparisons, exports; in clones, offline, without git."""

import base64
import hashlib
import json
import platform
import re
import shutil
import socket
import subprocess
import warnings
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.metadata import distribution, version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from dvc.utils.serialize import parse_yaml
from openlineage.client.event_v2 import Dataset, Job, Run, RunEvent, RunState
from openlineage.client.serde import Serde
from prov.model import ProvDocument
from rocrate.rocrate import ROCrate
from tiny_inputs import CHECKOUT
from workspace import STAGES, Workspace, tiny_files

from flows.checkout.git import Git
from flows.lineage.cli import main
from flows.lineage.project import Project
from flows.lineage.reproduce import without_times
from flows.records.hashes import hash_path
from flows.records.machine import torch_files
from flows.records.nested_keys import flatten
from flows.records.record import Record, digest_of, fill_in_run, md5s, parse_record, write_record
from transformer.errors import DataError
from transformer.files import sha256_of

SCHEMA = CHECKOUT / "flows" / "records" / "record.schema.json"


@pytest.fixture
def project(reproduced: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The shared finished project, current folder of this process; only to be read."""
    return reproduced.enter(monkeypatch)


def record_of(workspace: Workspace, stage: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((workspace.folder / "reports" / "lineage" / f"{stage}.json").read_text())
    return content


def lock_of(workspace: Workspace) -> Any:
    return parse_yaml((workspace.folder / "dvc.lock").read_text(), "dvc.lock")["stages"]


def test_hashes_are_those_of_dvc_and_of_the_library(project: Workspace) -> None:
    entries = [entry for stage in lock_of(project).values() for entry in stage["deps"] + stage["outs"]]
    assert len(entries) > 40
    for entry in entries:
        found = hash_path(project.folder / entry["path"])
        assert (found.md5, found.size, len(found.files)) == (entry["md5"], entry["size"], entry.get("nfiles", 0))
        assert found.sha256 == sha256_of(project.folder / entry["path"])


def test_records_fit_the_committed_schema_and_dvc_lock(project: Workspace) -> None:
    schema = json.loads(SCHEMA.read_text())
    assert schema == {"$schema": jsonschema.Draft202012Validator.META_SCHEMA["$id"], **Record.model_json_schema()}
    for stage, entry in lock_of(project).items():
        record = record_of(project, stage)
        jsonschema.validate(record, schema, cls=jsonschema.Draft202012Validator)
        assert {one["path"]: one["md5"] for one in record["inputs"]} == {e["path"]: e["md5"] for e in entry["deps"]}
        assert {one["path"]: one["md5"] for one in record["outputs"]} == {e["path"]: e["md5"] for e in entry["outs"]}
        assert record["command"] == entry["cmd"]
        assert record["params"].pop("compute")["device"] == "cpu"
        assert flatten(record["params"]) == flatten(entry["params"]["params.yaml"])
    broken = {**record_of(project, "train"), "seed": "one"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema, cls=jsonschema.Draft202012Validator)


def test_times_and_speeds_stand_in_the_records_alone(project: Workspace) -> None:
    fetched = record_of(project, "download")["measured"]["fetched"]
    assert {name.split("/")[0] for name in fetched} == {"tiny"}
    assert all(datetime.fromisoformat(time).utcoffset() == timedelta(0) for time in fetched.values())
    measured = record_of(project, "train")["measured"]
    times = {key: measured.pop(key) for key in ("target_tokens_per_second", "training_seconds", "elapsed_seconds")}
    assert min(times.values()) > 0
    assert measured == {"device": "cpu", "precision": "float32", "world_size": 1}
    evaluation = record_of(project, "evaluate")["measured"]
    assert evaluation.pop("sentences_per_second") > 0
    assert evaluation.keys() == {"device", "precision"}
    assert project.mlflow_runs()[STAGES.index("train")].data.metrics["training_seconds"] == times["training_seconds"]
    report = json.loads((project.folder / "reports" / "training.json").read_text())
    assert report.keys() == {"updates", "epochs", "target_tokens"}


def test_a_record_of_before_there_were_measurements_keeps_its_digest(project: Workspace) -> None:
    content = record_of(project, "prepare")
    assert content.pop("measured") == {}
    assert Record.model_validate(content).expected_digest == content["digest"]
    assert Record.model_validate({**content, "measured": {"seconds": 1.0}}).expected_digest != content["digest"]


def test_a_clock_decides_nothing_that_is_compared_after_reproducing_an_older_commit() -> None:
    before = {"files": [{"file": "a", "time": "2026-01-01"}], "training_seconds": 3.0, "updates": 7}
    assert without_times(before) == {"files": [{"file": "a"}], "updates": 7}


def test_a_record_tells_code_machine_and_runs(project: Workspace) -> None:
    record, client = record_of(project, "train"), project.mlflow_client()
    assert record["code"] == {
        "commit": project.git("rev-parse", "HEAD~1").strip(),
        "branch": "main",
        "changes": None,
        "changed": [],
    }
    assert record["seed"] == 1
    assert record_of(project, "prepare")["seed"] is None
    assert record["machine"]["python"] == platform.python_version()
    assert record["machine"]["packages"]["torch"] == version("torch")
    assert record["machine"]["threads"] >= 1
    assert record["started"] < record["ended"]
    run = client.get_run(record["runs"]["mlflow"])
    assert (run.data.tags["spool"], run.data.tags["record"]) == (record["runs"]["spool"], record["digest"])
    assert record["runs"]["prefect_flow_run"] is None


def test_a_run_is_filled_into_its_own_record_only(project: Workspace, tmp_path: Path) -> None:
    record = Record.model_validate(record_of(project, "train"))
    path = write_record(tmp_path, record)
    fill_in_run(path, "another execution", "0" * 32)
    assert parse_record(path.read_bytes(), "x") == record
    fill_in_run(path, record.runs.spool or "", "0" * 32)
    filled = parse_record(path.read_bytes(), "x")
    assert filled.runs.mlflow == "0" * 32
    assert filled.expected_digest == record.digest  # the run is no part of what the digest covers
    fill_in_run(tmp_path / "gone" / "train.json", "x", "y")
    with pytest.raises(DataError, match=r"x is not a lineage record: schema_version: "):
        parse_record(json.dumps({**record.model_dump(), "schema_version": 2}), "x")


def test_prefects_ids_and_changes_that_were_not_committed_are_told(project: Workspace, tmp_path: Path) -> None:
    workspace = project.copy_to(tmp_path / "checkout")
    workspace.environment |= {"PIPELINE_FLOW_RUN_ID": "f" * 32, "PIPELINE_TASK_RUN_ID": "a" * 32}
    source = workspace.folder / "transformer" / "data" / "cleaning.py"
    source.write_text(source.read_text() + "\n# edited\n")
    workspace.dvc("repro", "--single-item", "prepare")
    record = record_of(workspace, "prepare")
    assert record["code"]["changed"] == ["transformer/data/cleaning.py"]
    assert len(record["code"]["changes"]) == 64
    assert (record["runs"]["prefect_flow_run"], record["runs"]["prefect_task_run"]) == ("f" * 32, "a" * 32)


TARGETS = [
    "models/averaged",
    "models/averaged/model.safetensors",
    "reports/metrics.json",
    "HEAD",
    "transformer-en-de/1",
]


@pytest.mark.parametrize("target", TARGETS)
def test_every_kind_of_target_leads_back_to_the_sources(
    target: str, project: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", target, "--json"]) == 0
    chain = json.loads(capsys.readouterr().out)
    assert [step["stage"] for step in chain["steps"]][:6] == STAGES[:6]
    assert {source["origin"] for source in chain["sources"]} >= {"tiny/train.en", "tiny/test.de"}
    assert all(step["record"]["stage"] == step["stage"] for step in chain["steps"])


def test_runs_and_copies_lead_back_to_the_sources(
    project: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(project.folder / "models" / "averaged", tmp_path / "handed over")
    for target in (record_of(project, "average")["runs"]["mlflow"], str(copy), str(copy / "model.safetensors")):
        assert main(["show", target, "--json"]) == 0
        chain = json.loads(capsys.readouterr().out)
        assert chain["targets"][0].startswith("models/averaged")
        assert [step["stage"] for step in chain["steps"]] == STAGES[:6]
    (copy / "config.json").write_text("{}")
    assert main(["verify", str(copy)]) == 3
    assert "knows its content" in capsys.readouterr().err
    assert main(["show", "no-such-thing"]) == 3
    assert capsys.readouterr().err.startswith("lineage: 'no-such-thing' is not known here: name a model folder, ")


def test_a_chain_is_drawn(project: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show"]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in [*STAGES, "tiny/train.en", "models/averaged", "seed 1"])
    assert main(["show", "--mermaid"]) == 0
    chart = capsys.readouterr().out
    assert chart.startswith("flowchart LR\n")
    assert chart.count("-->") == len(set(chart.splitlines()) & {line for line in chart.splitlines() if "-->" in line})
    assert main(["show", "models/averaged", "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert page.count("<details") == 6
    assert all(f'id="stage-0-{stage}"' in page for stage in STAGES[:6])


@pytest.fixture(scope="module")
def two_models(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The project with a second commit: another seed, a stricter filter, fewer lines."""
    workspace = reproduced.copy_to(tmp_path_factory.mktemp("two") / "checkout")
    path = workspace.folder / "params.yaml"
    text = path.read_text().replace("  seed: 1\n", "  seed: 2\n")
    path.write_text(text.replace("held_out: 1.0", "held_out: 0.6"))
    workspace.repro()
    workspace.send()
    workspace.git("commit", "-qam", "another seed")
    return workspace


def test_two_models_are_compared(
    two_models: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_models.enter(monkeypatch)
    assert main(["diff", "transformer-en-de/1", "transformer-en-de/2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["params"] == {"preparation.filters.held_out": [1.0, 0.6], "training.seed": [1, 2]}
    train = next(lines for lines in found["lines"] if lines["split"] == "train")
    assert (train["added"], len(train["removed"]) + train["common"]) == ([], 400)
    assert found["commits"]["uncommitted in b"] == ["params.yaml"]
    assert found["scores"]["test.bleu"][0] != found["scores"]["test.bleu"][1]
    reports = [json.loads(two_models.git("show", f"{commit}:reports/metrics.json")) for commit in ("HEAD~1", "HEAD")]
    for score in found["significance"]:
        key = {"BLEU": "bleu", "chrF2": "chrf"}[score["metric"]]
        assert [round(score["a"], 2), round(score["b"], 2)] == [report["test"][key] for report in reports]
        assert 0 < score["p_value"] <= 1
    assert main(["diff", "HEAD", "HEAD"]) == 0
    assert capsys.readouterr().out.count("no difference") == 6
    assert main(["verify"]) == 0
    assert main(["verify", "transformer-en-de/1"]) == 0  # the older model, by its contents alone


def test_outputs_restored_from_the_run_cache_find_their_record(
    two_models: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = two_models.copy_to(tmp_path / "checkout").enter(monkeypatch)
    workspace.git("checkout", "HEAD~1", "--", "params.yaml")
    assert workspace.repro() == []
    assert main(["show", "models/averaged", "--json"]) == 0
    chain = json.loads(capsys.readouterr().out)
    assert {step["stage"]: step["found"].split()[0] for step in chain["steps"]}["train"] == "commit"
    assert next(step for step in chain["steps"] if step["stage"] == "train")["record"]["seed"] == 1
    # Neither workspace nor git: the record that was sent along with the run.
    shutil.rmtree(workspace.folder / "reports" / "lineage")
    shutil.rmtree(workspace.folder / ".git")
    (workspace.folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    assert main(["show", "models/averaged", "--json"]) == 0
    chain = json.loads(capsys.readouterr().out)
    assert {step["found"].split()[0] for step in chain["steps"]} == {"MLflow"}


@pytest.mark.slow
def test_an_equal_model_that_another_run_registered_has_the_code_of_that_run(
    reproduced: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = reproduced.copy_to(tmp_path / "checkout").enter(monkeypatch)
    path = workspace.folder / "transformer" / "cli" / "__init__.py"  # registered along, and a dependency of no stage
    path.write_text(f"{path.read_text()}\n# another line\n")
    workspace.git("commit", "-qam", "code")
    assert workspace.repro("--force", "--single-item", "average") == ["average"]
    workspace.send()
    workspace.git("commit", "-qam", "again")
    assert len(workspace.mlflow_client().search_model_versions()) == 2
    main(["verify", "models/averaged"])
    printed = capsys.readouterr().out
    assert "transformer (registered" not in printed
    assert printed.splitlines()[-1].endswith(" 0 BROKEN")


def test_the_record_that_read_the_same_counts_before_one_that_made_the_same_of_other_inputs(
    project: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when text with other line ends makes the same corpus, and DVC then restores that of the first text."""
    other = record_of(project, "prepare")
    other["inputs"][0]["md5"] = "0" * 32
    del other["schema_version"], other["digest"]
    sent = Record.sealed(other)
    here = Project(project.folder)
    monkeypatch.setattr(here.runs, "records_of", lambda stage: iter([("run", sent.model_dump_json())]))
    locked = here.lock["prepare"]
    found = here.records.of_lock(locked)
    assert found is not None
    assert found.record.digest == record_of(project, "prepare")["digest"]
    found = here.records.of_lock(replace(locked, inputs=md5s(sent.inputs)))
    assert found is not None
    assert (found.origin, found.record.digest) == ("MLflow run run", sent.digest)


def test_a_fresh_clone_after_dvc_pull_is_verified_offline(
    reproduced: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published = reproduced.copy_to(tmp_path / "published")
    published.dvc("remote", "add", "--default", "store", str(tmp_path / "remote"))
    published.git("commit", "-qam", "a remote")
    published.dvc("push")
    subprocess.run(["git", "clone", "-q", str(published.folder), str(tmp_path / "clone")], check=True)
    clone = Workspace(tmp_path / "clone").enter(monkeypatch)
    clone.dvc("pull")
    assert main(["verify"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith(
        "runs and registered models (MLflow) missing: no run store in this workspace: MLFLOW_"
    )
    assert printed[1].endswith(f" ok, {len(STAGES)} unsigned, 1 missing, 0 BROKEN")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free.getsockname()[1]}")
        assert main(["verify"]) == 1
    assert "does not answer" in capsys.readouterr().out
    assert main(["verify", "HEAD"]) == 1
    assert main(["verify", "--offline"]) == 0
    assert "0 missing, 0 BROKEN, 1 left out: 1 MLflow (http://127.0.0.1:" in capsys.readouterr().out.splitlines()[-1]


def test_an_mlflow_server_that_says_nothing_holds_nobody_up(
    project: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{mute.getsockname()[1]}")
        assert main(["verify"]) == 1
        assert main(["show", "transformer-en-de/1"]) == 3
    told = capsys.readouterr()
    assert "runs and registered models (MLflow) missing: MlflowException: API request to" in told.out
    assert told.err.startswith("lineage: transformer-en-de/1 is not registered: MlflowException: ")


def test_without_git_records_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tarball = tiny_files(tmp_path / "unpacked").enter(monkeypatch)
    (tarball.folder / ".dvc" / "config.local").write_text("[core]\n    no_scm = true\n")
    tarball.environment["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"  # the discard port: nobody answers
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    tarball.dvc("repro", "prepare")
    assert record_of(tarball, "prepare")["code"] == {"commit": None, "branch": None, "changes": None, "changed": []}
    assert main(["show", "data/corpus"]) == 0
    assert main(["verify", "data/corpus"]) == 1  # MLflow alone is missing


def test_the_stages_run_again_make_the_same_outputs(
    reproduced: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = reproduced.copy_to(tmp_path / "checkout").enter(monkeypatch)
    before = lock_of(workspace)
    assert main(["reproduce", "data/tokens"]) == 0
    printed = capsys.readouterr().out
    assert "data/corpus (reproduced) ok" in printed
    assert "data/manifest.json (reproduced) ok" in printed
    assert "but for times" not in printed
    assert "8 ok, 0 missing, 0 BROKEN" in printed
    assert lock_of(workspace) == before
    assert workspace.git("worktree", "list").count("\n") == 1
    assert list((workspace.folder / "work" / "reproduced").iterdir()) == []
    # The results are committed anew beside another data file.
    (workspace.folder / "tiny" / "train.en").write_text("changed\n" * 400)
    workspace.git("commit", "-q", "-a", "--amend", "-m", "results")
    assert main(["reproduce", "data/raw"]) == 2
    assert "data/raw (reproduced) BROKEN: expected" in capsys.readouterr().out


def test_openlineage_events_are_read_back_by_its_client(project: Workspace, tmp_path: Path) -> None:
    assert main(["export", "--format", "openlineage", "--output", str(tmp_path / "events.jsonl")]) == 0
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 2 * len(STAGES)
    written: dict[tuple[str, str], str] = {}
    for line in lines:
        event = json.loads(line)
        datasets = {
            key: [Dataset(one["namespace"], one["name"], facets=one["facets"]) for one in event[key]]
            for key in ("inputs", "outputs")
        }
        # The client's classes check ids, times and addresses.
        again = RunEvent(
            eventTime=event["eventTime"],
            eventType=RunState(event["eventType"]),
            run=Run(**event["run"]),
            job=Job(**event["job"]),
            producer=event["producer"],
            **datasets,
        )
        assert {key: Serde.to_dict(again)[key] for key in ("run", "schemaURL")} == {
            key: event[key] for key in ("run", "schemaURL")
        }
        for one in event["inputs"]:
            key = (one["namespace"], one["name"])
            if key in written:
                assert one["facets"]["version"]["datasetVersion"] == written[key]
        for one in event["outputs"]:
            written[one["namespace"], one["name"]] = one["facets"]["version"]["datasetVersion"]
    assert ("attention-pipeline", "models/averaged") in written


def test_prov_fits_its_schema_and_survives_a_round_trip(project: Workspace, tmp_path: Path) -> None:
    import prov

    path = tmp_path / "prov.json"
    assert main(["export", "--format", "prov", "--output", str(path)]) == 0
    schema = json.loads((Path(prov.__file__).parent / "tests" / "schemas" / "prov-json.schema.json").read_text())
    jsonschema.Draft4Validator(schema).validate(json.loads(path.read_text()))
    document = ProvDocument.deserialize(str(path))
    assert ProvDocument.deserialize(content=document.serialize()) == document
    assert len(json.loads(path.read_text())["activity"]) == len(STAGES)


def test_an_ro_crate_is_read_back_whole(
    project: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", "models/averaged", "--format", "ro-crate", "--output", str(tmp_path / "crate")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(command) == 0
        crate = ROCrate(tmp_path / "crate")
    root = crate.root_dataset
    # What RO-Crate 1.2 demands of the root data entity and of the metadata descriptor.
    assert all(root.get(key) for key in ("@type", "name", "description", "datePublished", "license"))
    assert crate.metadata["about"] is root
    assert str(crate.metadata["conformsTo"]).startswith("https://w3id.org/ro/crate/1.")
    actions = crate.get_by_type("CreateAction")
    assert [action["name"] for action in actions] == STAGES[:6]
    assert all(action.get(key) for action in actions for key in ("instrument", "object", "result", "endTime"))
    assert sha256_of(tmp_path / "crate" / "models" / "averaged") == sha256_of(project.folder / "models" / "averaged")
    assert crate.dereference("models/averaged/")["sha256"] == sha256_of(project.folder / "models" / "averaged")
    for entity in crate.data_entities:
        assert (tmp_path / "crate" / entity.id).exists()
    record = json.loads((tmp_path / "crate" / "records" / "train.json").read_text())
    assert record == record_of(project, "train")
    assert main(command) == 3
    assert capsys.readouterr().err == f"lineage: {tmp_path / 'crate'} exists: name a new folder\n"


def test_git_answers_for_files_folders_and_what_is_not_there(project: Workspace) -> None:
    git = Git(project.folder)
    assert git.file("HEAD", "params.yaml") == (project.folder / "params.yaml").read_bytes()
    assert git.file("HEAD", "transformer") is None
    assert git.file("HEAD", "no such file") is None
    names = {path.name for path in (project.folder / "transformer" / "averaging").glob("*.py")}
    assert set(git.below("HEAD", "transformer/averaging")) == names
    assert git.commit("nothing") is None
    outside = Git(project.folder / "transformer")
    assert (outside.present, outside.commit("HEAD")) == (False, None)


def test_the_digest_covers_all_but_the_run() -> None:
    content = {"stage": "train", "machine": {}, "runs": {"spool": "x", "mlflow": None}}
    assert digest_of(content) == digest_of({**content, "runs": {"spool": "x", "mlflow": "y"}})
    assert digest_of(content) != digest_of({**content, "runs": {"spool": "z", "mlflow": None}})


def test_the_hash_of_torchs_files_is_that_of_the_installed_ones() -> None:
    """Its build is the index's choice: no lock pins it."""
    import torch

    folder = Path(torch.__file__).parent
    recorded = distribution("torch").read_text("RECORD") or ""
    for name in ("torch/__init__.py", "torch/version.py"):
        digest = base64.urlsafe_b64encode(hashlib.sha256((folder.parent / name).read_bytes()).digest()).decode()
        assert f"{name},sha256={digest.rstrip('=')}," in recorded
    assert re.fullmatch("[0-9a-f]{64}", torch_files() or "")
