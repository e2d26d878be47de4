"""The rules that keep the rooms apart: what may import what, what a stage declares, how long a module may get."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from transformer.params import ComputeParams, Params

CHECKOUT = Path(__file__).parents[1]
ORCHESTRATION = {"flows", "prefect", "dvc", "mlflow"}
STAGES = sorted(yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"])
MODULES = sorted(path for package in ("transformer", "flows") for path in (CHECKOUT / package).rglob("*.py"))
# Shared plumbing, progress bars and the checks of params change no result, so no stage depends on them.
PLUMBING = {
    "__init__.py", "chunks.py", "errors.py", "files.py", "params.py", "progress.py", "section.py",
    "working_folder.py",
}  # fmt: skip
# Params that change no byte: how to fetch, and how much to hold at a time.
WITHOUT_RESULT = {"download.retries", "download.timeout_seconds", "preparation.batch_pairs"}


def imported_names(path: Path) -> Iterator[str]:
    """Absolute dotted names that a file imports anywhere, names imported from a package included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_the_library_names_no_orchestration() -> None:
    found = {
        f"{path.relative_to(CHECKOUT)}: {name}"
        for path in MODULES
        for name in imported_names(path)
        if path.is_relative_to(CHECKOUT / "transformer") and name.split(".")[0] in ORCHESTRATION
    }
    assert not found


def modules_after(program: str) -> set[str]:
    """Top-level modules that are loaded once `program` has run in a fresh process."""
    report = "\nimport sys\nprint(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", program + report], cwd=CHECKOUT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_the_whole_library_loads_without_orchestration() -> None:
    names = [
        ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.is_relative_to(CHECKOUT / "transformer") and path.name != "__main__.py"
    ]
    loaded = modules_after("\n".join(f"import {name}" for name in names))
    assert "torch" in loaded
    assert not loaded & ORCHESTRATION


def test_stages_load_neither_prefect_nor_mlflow_nor_dvc() -> None:
    loaded = modules_after("\n".join(f"import flows.stages.{stage}" for stage in STAGES))
    assert {"flows", "transformer"} <= loaded
    assert not loaded & {"prefect", "mlflow", "dvc"}


def library_files_of(module: Path, seen: set[Path]) -> set[Path]:
    """Files of the library that `module` imports, directly or through others."""
    for name in imported_names(module):
        parts = name.split(".")
        if parts[0] != "transformer":
            continue
        for length in (len(parts), len(parts) - 1):  # the last part may be a name inside the module
            path = CHECKOUT.joinpath(*parts[:length]).with_suffix(".py")
            if path.is_file() and path not in seen:
                seen.add(path)
                library_files_of(path, seen)
    return seen


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_code_that_it_uses_and_no_other(stage: str) -> None:
    deps = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"][stage]["deps"]
    declared = [CHECKOUT / dep for dep in deps if dep.startswith("transformer")]
    assert f"flows/stages/{stage}.py" in deps
    assert all(path.exists() for path in declared)
    used = library_files_of(CHECKOUT / "flows" / "stages" / f"{stage}.py", set())
    missing = {
        str(path.relative_to(CHECKOUT))
        for path in used
        if path.name not in PLUMBING and not any(path == dep or path.is_relative_to(dep) for dep in declared)
    }
    assert not missing
    unused = {str(dep) for dep in declared if not any(path == dep or path.is_relative_to(dep) for path in used)}
    assert not unused


def test_every_param_that_changes_a_result_belongs_to_a_stage() -> None:
    """Where dvc.yaml lists a section key by key, a new key is not forgotten."""
    stages = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["stages"]
    listed = {name for stage in stages.values() for name in stage["params"]}
    sections = {name: field.annotation for name, field in Params.model_fields.items()}
    keys = {f"{section}.{key}" for section, kind in sections.items() for key in kind.model_fields}
    covered = {key for key in keys if key in listed or key.split(".")[0] in listed}
    compute = {f"compute.{key}" for key in ComputeParams.model_fields}
    assert keys - covered == compute | WITHOUT_RESULT
    assert all(name in keys | sections.keys() for name in listed)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_modules_and_functions_stay_short(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 350
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno < 60, node.name
