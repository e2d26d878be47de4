"""The whole pipeline on a tiny corpus: real DVC, real training, real MLflow, in a copy of this checkout.

The tests share one copy and run in the order they stand in, as one user's afternoon; each builds on the one before.
"""

import json
import subprocess
import sys
from pathlib import Path

import mlflow
import pytest
import yaml
from workspace import STAGES, Workspace, tiny_files

from transformer.files import private_folder, sha256_of
from transformer.params import load_params

OUTPUTS = [
    "data/raw/parts.json",
    "data/manifest.json",
    "data/corpus/train.parquet",
    "data/corpus/valid.parquet",
    "data/corpus/test.parquet",
    "data/tokens/spm.model",
    "models/checkpoints/index.json",
    "models/averaged/model.safetensors",
    "models/averaged/config.json",
    "models/averaged/spm.model",
    "models/averaged/model_card.md",
    "models/averaged/averaged.json",
    "reports/corpus.json",
    "reports/tokens.json",
    "reports/training.json",
    "reports/curves/training.csv",
    "reports/curves/validation.csv",
    "reports/metrics.json",
    "reports/plots/bleu_by_length.csv",
    "reports/translations/tiny-test.jsonl",
]


@pytest.fixture(scope="module")
def workspace(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A git checkout with a tiny corpus and tiny params, in which `dvc repro` has run every stage."""
    return reproduced.copy_to(tmp_path_factory.mktemp("pipeline") / "checkout")


def test_dvc_repro_makes_every_output(workspace: Workspace) -> None:
    assert [name for name in OUTPUTS if not (workspace.folder / name).is_file()] == []
    metrics = json.loads((workspace.folder / "reports" / "metrics.json").read_text())
    assert {"bleu", "chrf", "ter", "bleu_signature"} <= set(metrics["test"])
    assert len(list((workspace.folder / "reports" / "attention").glob("*/*.png"))) == 3
    lines = (workspace.folder / "reports" / "translations" / "tiny-test.jsonl").read_text().splitlines()
    assert len(lines) == 30
    assert {"source", "reference", "hypothesis", "score"} <= set(json.loads(lines[0]))
    committed = workspace.git("diff", "--name-only", "HEAD~1").split()
    assert {name.split("/")[0] for name in committed} == {"dvc.lock", "reports"}


def test_a_second_repro_runs_nothing(workspace: Workspace) -> None:
    assert "Data and pipelines are up to date." in workspace.dvc("repro")


def test_each_stage_is_one_run_and_runs_join_by_content(workspace: Workspace) -> None:
    runs = workspace.mlflow_runs()
    assert [run.data.tags["stage"] for run in runs] == STAGES
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len({run.data.tags["pipeline"] for run in runs}) == 1
    assert {run.data.tags["git.commit"] for run in runs} == {workspace.git("rev-parse", "HEAD~1").strip()}
    assert {run.data.tags["git.dirty"] for run in runs} == {"false"}
    made = {key[7:]: value for run in runs for key, value in run.data.tags.items() if key.startswith("output.")}
    read = {key[6:]: value for run in runs for key, value in run.data.tags.items() if key.startswith("input.")}
    assert made["models/averaged"] == sha256_of(workspace.folder / "models" / "averaged")
    joined = set(made) & set(read)
    assert {"data/raw", "data/corpus", "data/tokens", "models/checkpoints", "models/averaged"} <= joined
    assert all(made[path] == read[path] for path in joined)
    train, evaluate = (runs[STAGES.index(stage)] for stage in ("train", "evaluate"))
    assert train.data.params["training.updates"] == "40"
    assert "loss" in " ".join(train.data.metrics)
    assert evaluate.data.metrics["test.bleu"] >= 0


def test_the_registered_model_translates_away_from_the_checkout(workspace: Workspace, tmp_path: Path) -> None:
    uri = f"sqlite:///{workspace.folder}/mlflow.db"
    (version,) = mlflow.MlflowClient(tracking_uri=uri).search_model_versions("name = 'transformer-en-de'")
    assert version.tags["sha256"] == sha256_of(workspace.folder / "models" / "averaged")
    program = (
        "import json, sys, mlflow, pandas\n"
        f"mlflow.set_tracking_uri({uri!r})\n"
        "model = mlflow.pyfunc.load_model('models:/transformer-en-de/1')\n"
        "import transformer\n"
        "texts = ['the cat sees the red lamp.', '']\n"
        "frame = pandas.DataFrame({'source': texts})\n"
        "print(json.dumps([transformer.__file__, model.predict(texts), list(model.predict(frame))]))\n"
    )
    isolated = {**workspace.environment, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=tmp_path, env=isolated, capture_output=True, text=True, check=True
    )
    code, translated, from_frame = json.loads(done.stdout.splitlines()[-1])
    assert not Path(code).is_relative_to(workspace.folder / "transformer")
    assert translated == from_frame
    command = [sys.executable, "-m", "transformer", "translate", "--model", "models/averaged"]
    by_hand = subprocess.run(
        command,
        input="the cat sees the red lamp.\n\n",
        cwd=workspace.folder,
        env=workspace.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert by_hand.stdout == "".join(f"{line}\n" for line in translated)


def test_metrics_params_and_plots_are_shown(workspace: Workspace) -> None:
    assert "test.bleu" in workspace.dvc("metrics", "show", "--md")
    page = workspace.dvc("plots", "show").strip().splitlines()[-1]
    html = Path(page.removeprefix("file://")).read_text()
    for title in ("Loss", "Learning rate", "Validation BLEU", "BLEU by source length"):
        assert title in html
    data = json.loads(workspace.dvc("plots", "show", "--json"))
    assert not data.get("errors")


def test_editing_decoding_evaluates_again_and_trains_nothing(workspace: Workspace) -> None:
    search = workspace.folder / "transformer" / "decoding" / "search.py"
    original = search.read_text()
    search.write_text(original + "\n# edited\n")
    assert workspace.repro() == ["evaluate"]
    search.write_text(original)
    assert workspace.repro() == []  # from the run cache


def test_an_experiment_with_another_seed(workspace: Workspace) -> None:
    before = sha256_of(workspace.folder / "models" / "averaged")
    workspace.dvc("exp", "run", "-S", "training.seed=2", "-S", "training.adam_epsilon=1e-8", "-n", "seed-two")
    assert load_params(workspace.folder / "params.yaml").training.adam_epsilon == 1e-8
    assert sha256_of(workspace.folder / "models" / "averaged") != before
    assert "training.seed" in workspace.dvc("params", "diff")
    assert "test.bleu" in workspace.dvc("metrics", "diff", "--all")
    assert "seed-two" in workspace.dvc("exp", "show", "--md")
    workspace.git("checkout", ".")
    workspace.dvc("checkout")
    assert sha256_of(workspace.folder / "models" / "averaged") == before
    stages = [run.data.tags["stage"] for run in workspace.mlflow_runs()]
    assert stages == [*STAGES, "evaluate", "train", "average", "export", "evaluate"]


def test_push_and_pull_through_a_folder(workspace: Workspace, tmp_path: Path) -> None:
    workspace.dvc("remote", "add", "--local", "-d", "folder", str(tmp_path / "remote"))
    workspace.dvc("push")
    workspace.git("clone", ".", str(tmp_path / "clone"))
    clone = Workspace(tmp_path / "clone")
    clone.environment["DVC_SITE_CACHE_DIR"] = str(private_folder(tmp_path / "site-cache"))
    clone.dvc("remote", "add", "--local", "-d", "folder", str(tmp_path / "remote"))
    clone.dvc("pull")
    assert sha256_of(clone.folder / "models") == sha256_of(workspace.folder / "models")
    assert clone.repro() == []


def test_wrong_params_stop_dvc_with_one_line(workspace: Workspace) -> None:
    path = workspace.folder / "params.yaml"
    original = path.read_text()
    params = yaml.safe_load(original)
    params["training"]["updates"] = -1
    path.write_text(yaml.safe_dump(params))
    printed = workspace.run(sys.executable, "-m", "flows.stages", succeeds=False)  # what `make repro` runs first
    assert printed == "error: params.yaml: training.updates = -1: input should be greater than or equal to 1\n"
    assert (workspace.folder / "models" / "checkpoints").is_dir()
    printed = workspace.run(sys.executable, "-m", "dvc", "repro", succeeds=False)
    assert "error: params.yaml: training.updates = -1: input should be greater than or equal to 1" in printed
    assert "Traceback" not in printed
    path.write_text(original)
    workspace.git("checkout", ".")
    workspace.dvc("checkout")  # DVC had deleted the outputs of the stage before it started it


@pytest.fixture
def tarball(tmp_path: Path) -> Workspace:
    """The checkout without git, as a source tarball holds it."""
    return tiny_files(tmp_path / "unpacked")


def test_without_git_everything_but_experiments_works(tarball: Workspace, workspace: Workspace) -> None:
    # The environment of this test stands in for one that `make setup` has installed already.
    venv = tarball.folder / ".venv"
    (venv / "bin").mkdir(parents=True)
    stamp = f"{tarball.folder}\n" + "".join(
        (tarball.folder / name).read_text() for name in ("pyproject.toml", "constraints.txt")
    )
    (venv / ".installed").write_text(stamp)
    for tool, command in {"python": sys.executable, "dvc": f"{sys.executable} -m dvc"}.items():
        (venv / "bin" / tool).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (venv / "bin" / tool).chmod(0o755)
    shell = ["env", "-u", "MAKEFLAGS", "-u", "MAKELEVEL", "make", "repro"]
    printed = tarball.run(*shell)
    assert "tiny-test" in printed
    assert "MLflow: sqlite:///" in printed
    assert "no_scm = true" in (tarball.folder / ".dvc" / "config.local").read_text()
    runs = tarball.mlflow_runs()
    assert [run.data.tags["stage"] for run in runs] == STAGES
    assert {run.data.tags["git.commit"] for run in runs} == {"no git"}
    # Another folder, no git, no shared cache: the same bytes.
    for name in ("data/corpus", "data/tokens", "models/checkpoints", "models/averaged", "reports/translations"):
        assert sha256_of(tarball.folder / name) == sha256_of(workspace.folder / name), name
    assert "Data and pipelines are up to date." in tarball.run(*shell)
