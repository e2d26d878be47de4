"""The wheel of the library alone: it holds what it needs, and translates where nothing else is installed."""

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import torch
from tiny_inputs import CHECKOUT
from tiny_model import sentence, write_tiny_model

from flows.tracking.delivery import MODEL_REQUIREMENTS

sys.path.insert(0, str(CHECKOUT))
from deploy.wheel import LIBRARY, build

# What the distributions in LIBRARY need themselves.
NEEDED = {
    "annotated-types", "filelock", "fsspec", "jinja2", "markdown-it-py", "markupsafe", "mdurl", "mpmath", "networkx",
    "pydantic-core", "pygments", "setuptools", "sympy", "typing-extensions", "typing-inspection", "ruamel-yaml-clib",
}  # fmt: skip


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    build(folder)
    (found,) = folder.iterdir()
    return found


def test_it_holds_the_library_and_names_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = archive.read(next(name for name in names if name.endswith("METADATA"))).decode()
    modules = {str(path.relative_to(CHECKOUT)) for path in (CHECKOUT / "transformer").rglob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == modules
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line]
    assert len(needed) == len(LIBRARY)
    assert not [line for line in needed if any(word in line for word in ("dvc", "mlflow", "prefect", "pandas"))]


def test_the_registered_model_asks_for_the_same() -> None:
    assert sorted({*LIBRARY, "mlflow"}) == sorted(MODEL_REQUIREMENTS)


@pytest.mark.slow
def test_it_translates_in_a_bare_environment(wheel: Path, tmp_path: Path) -> None:
    """An environment that sees, of what is installed here, the library's requirements and theirs."""
    write_tiny_model(tmp_path / "model")
    environment = tmp_path / "bare"
    venv.create(environment, symlinks=True, with_pip=False)
    (site,) = (environment / "lib").glob("python3*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    _link_distributions(site)
    program = "import sys; from transformer.cli import main; sys.exit(main(sys.argv[1:]))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    for options in ([], ["--protect", "all", "--prefix", "the", "--json"]):
        done = subprocess.run(
            [str(environment / "bin" / "python"), "-c", program, "translate", "--model", "model", *options],
            input=sentence(1, 4) + "\n", cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=200,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        assert done.stdout.strip()


def _link_distributions(site: Path) -> None:
    """Links to the files of the distributions that the wheel asks for; nothing is downloaded."""
    from importlib.metadata import PackageNotFoundError, distribution

    for name in [*LIBRARY, *NEEDED]:
        try:
            found = distribution(name)
        except PackageNotFoundError:
            continue
        for top in {Path(str(file)).parts[0] for file in found.files or [] if not str(file).startswith("..")}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (site / top).exists():
                (site / top).symlink_to(source)
    assert (site / "torch").exists()
    assert torch.__version__
