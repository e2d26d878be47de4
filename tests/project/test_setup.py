"""Set-up: one lock for everything, telemetry off, Prefect's server alive with these versions, make's own checks."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
from distributions import closure
from packaging.utils import canonicalize_name
from packaging.version import Version

CHECKOUT = Path(__file__).parents[2]
PYPROJECT = CHECKOUT / "pyproject.toml"


def lock() -> str:
    return (CHECKOUT / "constraints.txt").read_text()


def constraints() -> dict[str, str]:
    """Distribution name -> pinned version."""
    return {canonicalize_name(name): pin for name, pin in re.findall(r"^([\w.-]+)==([^\s;\\]+)", lock(), re.M)}


def project_requirements() -> list[str]:
    import tomllib

    project = tomllib.loads(PYPROJECT.read_text())["project"]
    extras = [line for name in ("servers", "test") for line in project["optional-dependencies"][name]]
    return [*project["dependencies"], *(line for line in extras if not line.startswith(project["name"]))]


# A build of torch names the exact versions of the libraries that it needs itself.
OF_TORCH = re.compile(r"(torch|triton|nvidia-(?!ml-py)[\w-]+|cuda-[\w-]+)$")


def test_the_lock_covers_all_that_is_installed_for_this_project() -> None:
    pins = constraints()
    installed = closure(project_requirements())
    assert len(installed) > 100
    assert {name for name in installed - set(pins) if not OF_TORCH.match(name)} == set()
    different = {name: version(name) for name in installed & set(pins) if version(name).split("+")[0] != pins[name]}
    assert not different


def test_each_version_in_the_lock_has_hashes_and_no_address_is_there() -> None:
    blocks = re.split(r"^(?=[\w.-]+==)", lock(), flags=re.M)[1:]
    assert len(blocks) == len(constraints())
    for block in blocks:
        hashes = re.findall(r"--hash=sha256:[0-9a-f]{64}$", block.replace(" \\", ""), re.M)
        assert hashes, block
        assert len(hashes) == block.count("--hash="), block
    assert not re.search(r"://|\bfile:|--(extra-)?index|--find-links", lock())


def test_torchs_build_is_left_to_the_index_and_its_version_is_not() -> None:
    assert not [name for name in constraints() if OF_TORCH.match(name)]
    assert "torch==2.13.0" in project_requirements()


def test_the_parts_of_the_lock_hold_what_their_extras_need() -> None:
    parts = re.split(r"^# (?:The pipeline|Only for the extra `\w+`.*)\.$", lock(), flags=re.M)[1:]
    named = [set(re.findall(r"^([\w.-]+)==", part, re.M)) for part in parts]
    for name, part in {"mlflow": 0, "setuptools": 0, "boto3": 1, "pytest": 2, "ipadic": 3, "uv": 4}.items():
        assert [name in names for names in named] == [number == part for number in range(5)], name


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
    checked = "--require-hashes --no-deps --no-build-isolation"
    assert f"-m pip install --quiet {checked} -r .venv/requirements.txt\n" in calls
    assert "-m pip install --quiet torch==2.13.0\n" in calls
    assert "-m pip install --quiet --no-deps --no-build-isolation -e .\n" in calls
    assert calls.endswith("-m pip check\n")
    assert not re.search(r"^(boto3|pytest)==", (checkout / ".venv" / "requirements.txt").read_text(), re.M)
    quiet = make(checkout, "setup", python_)
    assert (quiet.returncode, quiet.stdout, (checkout / "calls").read_text()) == (0, "", calls)

    with (checkout / "constraints.txt").open("a") as stream:
        stream.write("# edited\n")
    assert "Installing" in make(checkout, "setup", python_).stdout
    assert "Installing" in make(checkout, "setup-test", python_).stdout
    needed = (checkout / ".venv" / "requirements.txt").read_text()
    assert re.search(r"^pytest==", needed, re.M)
    assert not re.search(r"^(uv|ipadic)==", needed, re.M)
    assert make(checkout, "setup", python_).stdout == ""

    (checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")  # an installation that fails half-way
    with (checkout / "constraints.txt").open("a") as stream:
        stream.write("# edited again\n")
    (tools / "python").write_text('#!/bin/sh\ncase "$*" in *install*) exit 1;; esac\n')
    assert make(checkout, "setup", python_).returncode != 0
    assert not (checkout / ".venv" / ".installed").exists()


def tiny_wheel(folder: Path) -> str:
    """A wheel named `tiny`; returns its SHA-256."""
    path = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr("tiny.py", "")
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_with_another_hash_is_not_installed(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(checkout), "PIP_CONFIG_FILE": os.devnull}.items():
        monkeypatch.setenv(name, value)
    digest = tiny_wheel(checkout)
    wrong = f"{(int(digest[0], 16) + 1) % 16:x}{digest[1:]}"
    (checkout / "constraints.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{wrong}\n")
    done = make(checkout, "setup", f"PYTHON={sys.executable}")
    assert done.returncode != 0
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in done.stderr
    assert not list((checkout / ".venv").rglob("tiny.py"))
    assert not (checkout / ".venv" / ".installed").exists()
    # With the right hash it goes on to what is not there: torch.
    (checkout / "constraints.txt").write_text(f"tiny==1.0 \\\n    --hash=sha256:{digest}\n")
    done = make(checkout, "setup", f"PYTHON={sys.executable}")
    assert "No matching distribution found for torch==" in done.stderr
    assert list((checkout / ".venv").rglob("tiny.py"))
