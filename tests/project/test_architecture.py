"""A stage depends on the code that it runs; modules stay short. Who may import whom stands in pyproject.toml."""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml
from workspace import Workspace

from flows.checkout import workspace as workspace_names
from flows.records.dvc_files import parse_definition
from flows.records.plumbing import CHECKS, PLUMBING, is_known
from flows.records.record import parse_record
from transformer.data.prepare import prepare
from transformer.data.tokenize import tokenize
from transformer.params import ComputeParams, Params, PromotionParams
from transformer.training import resume

CHECKOUT = Path(__file__).parents[2]
DEFINITIONS = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"]
STAGES = sorted(DEFINITIONS)
MODULES = sorted(path for package in ("transformer", "flows") for path in (CHECKOUT / package).rglob("*.py"))
# Params that change no byte: how to fetch, and how much to hold at a time.
WITHOUT_RESULT = {
    "download.retries",
    "download.timeout_seconds",
    "preparation.batch_pairs",
    "preparation.max_line_bytes",
}


@pytest.fixture(scope="module")
def traced(reproduced: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A checkout in which every stage has run once more, watched from its process's first line on by another hook."""
    folder = tmp_path_factory.mktemp("traced")
    made = reproduced.copy_to(folder / "checkout")
    (folder / "imports").mkdir()
    made.environment |= {
        "PYTHONPATH": str(CHECKOUT / "tests" / "support" / "traced_imports"),
        "IMPORTS_TO": str(folder / "imports"),
    }
    assert sorted(made.repro("--force")) == STAGES
    return made


@pytest.fixture(scope="module")
def executed(traced: Workspace) -> dict[str, set[str]]:
    """The Python files that each stage's processes executed: below the checkout, or of third parties, as paths."""
    root = f"{traced.folder.resolve()}/"
    folder = traced.folder.parent / "imports"
    return {
        stage: {line.removeprefix(root) for line in (folder / stage).read_text().splitlines()} for stage in STAGES
    }


def code_of(stage: str) -> set[str]:
    """What dvc.yaml names of the library as a dependency of the stage."""
    return {dep for dep in DEFINITIONS[stage]["deps"] if dep.startswith("transformer/")}


@pytest.mark.parametrize("stage", STAGES)
def test_a_record_has_every_module_that_the_stages_processes_executed(
    stage: str, traced: Workspace, executed: dict[str, set[str]]
) -> None:
    record = parse_record((traced.folder / "reports" / "lineage" / f"{stage}.json").read_bytes(), stage)
    assert record.executed is not None
    assert record.executed.modules == {
        path: hashlib.sha256((traced.folder / path).read_bytes()).hexdigest()
        for path in executed[stage]
        if path.startswith(("transformer/", "flows/"))
    }
    assert record.executed.undeclared == []
    assert record.executed.altered == {}
    tracer = CHECKOUT / "tests" / "support" / "traced_imports" / "sitecustomize.py"
    assert record.executed.strangers == {str(tracer): hashlib.sha256(tracer.read_bytes()).hexdigest()}


def is_below(path: str, folders: Iterable[str]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for folder in folders)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_depends_on_the_code_that_it_runs_and_on_no_other(stage: str, executed: dict[str, set[str]]) -> None:
    ours = {path for path in executed[stage] if path.startswith(("transformer/", "flows/"))}
    declared = code_of(stage) | {f"flows/stages/{stage}.py"}
    assert declared <= set(DEFINITIONS[stage]["deps"])
    assert {path for path in ours if not is_known(path, declared)} == set()
    assert {dep for dep in declared if not any(is_below(path, [dep]) for path in ours)} == set()


def test_only_plumbing_that_is_used_is_exempt(executed: dict[str, set[str]]) -> None:
    paths = set().union(*executed.values())
    assert {name for name in (*PLUMBING, *CHECKS) if not any(is_below(path, [name]) for path in paths)} == set()
    assert {name for name in PLUMBING if any(name in code_of(stage) for stage in STAGES)} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_loads_neither_prefect_nor_mlflow_nor_dvc(stage: str, executed: dict[str, set[str]]) -> None:
    """They take seconds, and an update of theirs must not break a training."""
    installed = [path.split("/site-packages/")[1] for path in executed[stage] if "/site-packages/" in path]
    packages = {path.split("/")[0] for path in installed}
    assert "pydantic" in packages
    assert not packages & {"prefect", "mlflow", "dvc"}


CODE = {"prepare": prepare.CODE, "tokenize": tokenize.CODE, "train": resume.CODE}


@pytest.mark.parametrize(("stage", "code"), CODE.items())
def test_unfinished_work_is_keyed_by_the_code_that_the_stage_depends_on(stage: str, code: tuple[str, ...]) -> None:
    assert {f"transformer/{path}" for path in code} == code_of(stage)


def test_every_param_that_changes_a_result_belongs_to_a_stage() -> None:
    """Where dvc.yaml lists a section key by key, a new key is not forgotten."""
    listed = {name for stage in DEFINITIONS.values() for name in stage["params"]}
    sections = {name: field.annotation for name, field in Params.model_fields.items()}
    keys = {f"{section}.{key}" for section, kind in sections.items() for key in kind.model_fields}
    covered = {key for key in keys if key in listed or key.split(".")[0] in listed}
    compute = {f"compute.{key}" for key in ComputeParams.model_fields}
    promotion = {f"promotion.{key}" for key in PromotionParams.model_fields}
    assert keys - covered == compute | promotion | WITHOUT_RESULT
    assert all(name in keys | sections.keys() for name in listed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name


def test_names_of_files_are_those_of_dvc_yaml() -> None:
    """One module spells them for the code, dvc.yaml for DVC."""
    read = {dep for stage in DEFINITIONS.values() for dep in stage["deps"]}
    stages = parse_definition((CHECKOUT / "dvc.yaml").read_bytes(), "dvc.yaml").values()
    made = {path for stage in stages for path in stage.outputs}
    named = {value for name, value in vars(workspace_names).items() if name.isupper() and "/" in str(value)}
    elsewhere = {
        workspace_names.RECORDS,
        workspace_names.HYPOTHESES,
        workspace_names.DOWNLOADS,
        workspace_names.TRACKING,
    }
    assert named - elsewhere <= made | read
    assert {path for path in made if not path.startswith("reports/")} <= named
