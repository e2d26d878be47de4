"""Is a registered version what was registered: its model, its code, and the files by which MLflow loads it?

They are executed by whoever loads the version, so a file that nothing accounts for is as bad as a changed one.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flows.lineage.checks.link import Link, Status, broken, compared, compared_maps, missing
from flows.lineage.project import Project
from flows.lineage.run_store import ModelVersion
from flows.records.hashes import Hashes, hash_path, md5_of_bytes
from flows.records.record import Artifact, Record
from transformer.yaml12 import InvalidYamlError, parse_yaml

MODEL, CODE = "artifacts/model", "code/transformer"  # folders of a version: the model, and the code that loads it
LOADER, LOADER_SOURCE = "translator_model.py", "flows/tracking/translator_model.py"
HASH_FILE, DESCRIPTION, REQUIREMENTS = "artifacts/model.sha256", "MLmodel", "requirements.txt"
# Of MLflow's own: environments as MLflow derives them from the requirements, and the example of an input.
OF_MLFLOW = {"conda.yaml", "python_env.yaml", "input_example.json", "serving_input_example.json"}
KNOWN = {LOADER, HASH_FILE, DESCRIPTION, REQUIREMENTS} | OF_MLFLOW


def check_files(
    project: Project, record: Record, output: Artifact, version: ModelVersion, folder: Path | None, commit: str | None
) -> Iterator[Link]:
    """Each file of a version, fetched to `folder`; `commit` is that of its code, if that is known."""
    stage, where = record.stage, f"registered {version.name}/{version.version}"
    model = _inner(folder, MODEL)
    if folder is None or model is None:
        yield missing(stage, output.path, where, "its files were not found")
        return
    yield compared_maps(stage, output.path, where, output.files, model.listing)
    others = {name for name in hash_path(folder).files if not name.startswith((f"{MODEL}/", f"{CODE}/"))}
    if strange := sorted(others - KNOWN):
        yield broken(stage, strange[0], where, "expected no such file found one")
    if HASH_FILE in others:
        yield compared(stage, HASH_FILE, where, output.sha256, (folder / HASH_FILE).read_text(encoding="utf-8"))
    yield from _loading(stage, where, version, folder, record)
    if commit is not None:
        yield from _code(project, stage, where, commit, folder)


def check_champion(project: Project, stage: str, name: str) -> Iterator[Link]:
    """The alias is where the history of decisions says; by hand, MLflow lets anybody move it, who says nothing."""
    champion = project.runs.champion(name)
    if champion and champion[0] != champion[1]:
        words = f"the history names {champion[1]}, the alias {champion[0]}: see python -m flows.promotion"
        yield missing(stage, "champion", f"registered {name}", words)
    elif champion:
        yield Link(stage, "champion", f"registered {name}", Status.OK)


def _inner(folder: Path | None, name: str) -> Hashes | None:
    return hash_path(folder / name) if folder and (folder / name).is_dir() else None


def _loading(stage: str, where: str, version: ModelVersion, folder: Path, record: Record) -> Iterator[Link]:
    """MLflow's description names our loader, and the packages are those that the model was made with."""
    try:
        content = parse_yaml((folder / DESCRIPTION).read_bytes(), DESCRIPTION)
        flavour = content["flavors"]["python_function"]
        found = {
            "flavors": sorted(content["flavors"]),
            "run_id": content["run_id"],
            "code": flavour["code"],
            "loader": Path(flavour.get("model_code_path") or flavour["python_model"]).name,
            "artifacts": {name: one["path"] for name, one in sorted(flavour["artifacts"].items())},
        }
    except (OSError, InvalidYamlError, KeyError, TypeError, AttributeError) as error:
        yield broken(stage, DESCRIPTION, where, f"expected a description of a model found {type(error).__name__}")
        return
    artifacts = {"model": MODEL, **({"sha256": HASH_FILE} if (folder / HASH_FILE).exists() else {})}
    expected: dict[str, Any] = {
        "flavors": ["python_function"],
        "run_id": version.run,
        "code": "code",
        "loader": LOADER,
        "artifacts": artifacts,
    }
    yield compared_maps(stage, DESCRIPTION, where, expected, found)
    lines = _lines(folder / REQUIREMENTS)
    pins = {name: pin for name, _, pin in (line.partition("==") for line in lines)}
    made_with = {name.replace(".", "-"): pin.split("+")[0] for name, pin in record.machine.packages.items()}
    of_record = {name: made_with.get(name.lower().replace("_", "-").replace(".", "-"), "nothing") for name in pins}
    yield compared_maps(stage, REQUIREMENTS, where, of_record, pins)
    yield from _environments(stage, where, folder, lines)


def _environments(stage: str, where: str, folder: Path, requirements: list[str]) -> Iterator[Link]:
    """What MLflow would install to serve the model is what its requirements say, and Python and pip itself."""
    for name, of_python in (("conda.yaml", ("python=", "pip<=")), ("python_env.yaml", ("-r requirements.txt",))):
        path = folder / name
        if not path.is_file():
            continue
        try:
            content = parse_yaml(path.read_bytes(), name)
            listed = content["dependencies"]
        except (InvalidYamlError, KeyError, TypeError) as error:
            yield broken(stage, name, where, f"expected an environment found {type(error).__name__}")
            continue
        pips = [line for one in listed if isinstance(one, dict) for line in one.get("pip", [])]
        others = [one for one in listed if isinstance(one, str) and not one.startswith(of_python)]
        wanted = requirements if name == "conda.yaml" else []
        yield compared_maps(stage, name, where, dict.fromkeys(wanted, "it"), dict.fromkeys([*pips, *others], "it"))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").split() if path.is_file() else []


def _code(project: Project, stage: str, where: str, commit: str, folder: Path) -> Iterator[Link]:
    """The code in a registered model, and what loads it, is that of the commit."""
    files = project.git.below(commit, "transformer")
    expected = {name: md5_of_bytes(content) for name, content in files.items()}
    if expected and (found := _inner(folder, CODE)):
        yield compared_maps(stage, "transformer", where, expected, found.listing)
    loader = project.git.file(commit, LOADER_SOURCE)
    if loader is not None and (folder / LOADER).is_file():
        yield compared(stage, LOADER, where, md5_of_bytes(loader), md5_of_bytes((folder / LOADER).read_bytes()))
