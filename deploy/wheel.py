"""Builds a wheel of the library alone, dist/attention_transformer-….whl, which `make wheel` runs.

It holds transformer/ and the `transformer` command, and needs only what translating, scoring and exporting need: no
DVC, MLflow or Prefect, and nothing that only preparing, training or evaluating imports.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
# Of the dependencies in pyproject.toml those that a translator imports.
LIBRARY = [
    "langcodes", "language-data", "numpy", "protobuf", "pydantic", "regex", "rich", "ruamel.yaml", "safetensors",
    "sentencepiece", "torch",
]  # fmt: skip
EXTRAS = ["ctranslate2", "huggingface", "onnx"]


def project_file() -> str:
    """The pyproject.toml of the wheel, with the version, the ranges and the extras of the whole project's."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ranges = {re.split(r"[\[<>=~! ]", one)[0]: one for one in project["dependencies"]}
    extras = "\n".join(f"{name} = {project['optional-dependencies'][name]}" for name in EXTRAS)
    return f"""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "attention-transformer"
version = "{project["version"]}"
description = "Translates with models of attention-pipeline"
license = "MIT"
license-files = ["LICENSE"]
requires-python = "{project["requires-python"]}"
dependencies = {[ranges[name] for name in LIBRARY]}

[project.optional-dependencies]
{extras}

[project.scripts]
transformer = "{project["scripts"]["transformer"]}"

[tool.setuptools.packages.find]
include = ["transformer*"]
"""


def build(target: Path) -> None:
    """Build the wheel into the folder `target`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copytree(ROOT / "transformer", folder / "transformer", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "LICENSE", folder)
        (folder / "pyproject.toml").write_text(project_file(), encoding="utf-8")
        command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        subprocess.run([*command, "--wheel-dir", str(target.resolve()), str(folder)], check=True)


if __name__ == "__main__":
    build(ROOT / "dist")
    print(*sorted(f"dist/{one.name}" for one in (ROOT / "dist").glob("attention_transformer-*.whl")), sep="\n")
