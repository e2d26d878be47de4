"""Set-up: one lock for everything, telemetry off, Prefect's server alive with these versions, make's own checks."""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from distributions import closure
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).parents[2]
PYPROJECT = CHECKOUT / "pyproject.toml"
OLDEST_PYTHON = "3.11.0"


def constraints() -> dict[str, str]:
    """Distribution name -> pinned version."""
    lines = (CHECKOUT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): pin for name, pin in pins}


def project_requirements() -> list[str]:
    import tomllib

    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    return [*project["dependencies"], *(line for line in extras if not line.startswith(project["name"]))]


def test_the_lock_covers_all_that_is_installed_for_this_project() -> None:
    pins = constraints()
    installed = closure(project_requirements())
    assert len(installed) > 100
    # A CUDA build of torch names the exact versions of NVIDIA's libraries itself.
    loose = {name for name in installed - set(pins) if not name.startswith(("nvidia-", "cuda-")) and name != "triton"}
    assert not loose
    different = {name: version(name) for name in installed & set(pins) if version(name).split("+")[0] != pins[name]}
    assert not different


def test_the_lock_pins_nothing_else_and_leaves_torchs_build_to_the_index() -> None:
    pins = constraints()
    assert pins["torch"] == "2.13.0"
    assert all(re.fullmatch(r"[\w.!]+", pin) for pin in pins.values())
    assert not set(pins) - closure(project_requirements()) - closure(project_requirements(), OLDEST_PYTHON)


def test_the_pins_that_prefects_server_needs() -> None:
    pins = constraints()
    assert Version("0.139") <= Version(pins["fastapi"]) < Version("0.151")
    assert Version("2.0") <= Version(pins["sqlalchemy"]) < Version("2.1")


def python(program: str, **environment: str) -> str:
    """What a program prints that runs in the checkout with an otherwise neutral environment."""
    names = ("DO_NOT_TRACK", "MLFLOW_DISABLE_TELEMETRY", "DVC_NO_ANALYTICS", "PREFECT_SERVER_ANALYTICS_ENABLED", "CI")
    neutral = {key: value for key, value in os.environ.items() if key not in names and "PYTEST" not in key}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=CHECKOUT,
        env=neutral | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_dvc_sends_nothing() -> None:
    assert python("from dvc.analytics import is_enabled; print(is_enabled())") == "False"
    assert python("from dvc.repo import Repo; print(Repo('.').config['core']['check_update'])") == "False"


def test_mlflow_sends_nothing_once_flows_is_imported(tmp_path: Path) -> None:
    asked = "from mlflow.telemetry.utils import is_telemetry_disabled as off; print(off())"
    assert python(f"import flows; {asked}") == "True"


def test_prefect_sends_nothing(tmp_path: Path) -> None:
    home = str(tmp_path)
    server = "from prefect.settings import get_current_settings as s; print(s().server.analytics_enabled)"
    assert python(server, PREFECT_HOME=home) == "False"  # by pyproject.toml alone
    client = "import flows; from prefect._internal.analytics.service import AnalyticsService as A; "
    assert python(client + "print(A.instance()._quick_enabled_check())", PREFECT_HOME=home) == "False"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with just what make reads."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(CHECKOUT / name, tmp_path / name)
    return tmp_path


def make(checkout: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run make with the installed Python first on the path and no outer make's flags."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=checkout, env=environment, capture_output=True, text=True, timeout=60
    )


def fake_python(folder: Path, body: str) -> str:
    """A stand-in for a system Python with one defect."""
    script = folder / "fake-python"
    script.write_text(f'#!/bin/sh\n{body}\nexec {sys.executable} "$@"\n')
    script.chmod(0o755)
    return f"PYTHON={script}"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 127", "does not run: install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3.11"),
        (
            'case "$2" in *version_info*) exit 1;; esac; [ "$1" = -V ] && { echo Python 3.9.2; exit; }',
            "error: Python 3.9.2 is too old: install Python 3.11 or newer",
        ),
        ('case "$2" in *ensurepip*) exit 1;; esac', "lacks venv or ensurepip: install them (Debian, Ubuntu: apt"),
    ],
)
def test_make_names_what_is_missing_in_one_line(checkout: Path, body: str, message: str) -> None:
    done = make(checkout, "setup", fake_python(checkout, body))
    assert done.returncode != 0
    first, rest = done.stderr.split("\n", 1)
    assert message in first
    assert rest.startswith("make: ***")
    assert not (checkout / ".venv").exists()


def test_make_does_nothing_when_set_up_and_all_again_when_not(checkout: Path) -> None:
    # A stand-in for pip and dvc records that they were called; all else is the Makefile's own.
    (checkout / ".git").mkdir()
    tools = checkout / "tools"
    tools.mkdir()
    (tools / "python").write_text('#!/bin/sh\necho "$@" >> calls\n')
    (tools / "python").chmod(0o755)
    creates = 'case "$*" in "-m venv"*) mkdir -p .venv/bin; cp tools/python .venv/bin/; exit;; esac'
    python_ = fake_python(checkout, creates)

    assert make(checkout, "setup", python_).returncode == 0
    calls = (checkout / "calls").read_text()
    assert "-m pip install --quiet -c constraints.txt -e .\n" in calls
    quiet = make(checkout, "setup", python_)
    assert (quiet.returncode, quiet.stdout, (checkout / "calls").read_text()) == (0, "", calls)

    with (checkout / "constraints.txt").open("a") as stream:
        stream.write("# edited\n")
    assert "Installing" in make(checkout, "setup", python_).stdout
    assert "-e .[test]" not in (checkout / "calls").read_text()
    assert "Installing" in make(checkout, "setup-test", python_).stdout
    assert (checkout / "calls").read_text().endswith("-e .[test]\n")
    assert make(checkout, "setup", python_).stdout == ""

    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")  # an installation that fails half-way
    with (checkout / "constraints.txt").open("a") as stream:
        stream.write("# edited again\n")
    (tools / "python").write_text('#!/bin/sh\ncase "$*" in *install*) exit 1;; esac\n')
    assert make(checkout, "setup", python_).returncode != 0
    assert not (checkout / ".venv" / ".installed").exists()
