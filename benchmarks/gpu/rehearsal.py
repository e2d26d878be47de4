"""`make gpu-rehearsal`: benchmarks/gpu.sh on this CPU, in a Python that has what the bare machine has and no more."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.environment import environment
from transformer.errors import UserError

CHECKOUT = Path(__file__).parents[2]
BARE_MACHINE = Path(__file__).with_name("bare-machine.txt")
WANTED = "3.12"
ENVIRONMENT, OUT = CHECKOUT / "work" / "bare-machine", CHECKOUT / "work" / "gpu-rehearsal"
# Where Pythons of a version are, beside the PATH: pyenv's commands there run only the version that is switched on.
PLACES = (".pyenv/versions/{0}.*/bin/python{0}", ".local/share/uv/python/cpython-{0}.*/bin/python{0}")


def main() -> None:
    """Make the environment where it is not there yet, then run; the exit status is that of gpu.sh."""
    try:
        python = bare_environment(ENVIRONMENT, python_of(WANTED))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    sys.exit(rehearse(python, CHECKOUT, OUT).returncode)


def python_of(version: str) -> Path:
    """A Python of that version.

    Raises:
        UserError: there is none.
    """
    on_path = shutil.which(f"python{version}")
    found = [Path(on_path)] if on_path else []
    found += [path for place in PLACES for path in sorted(Path.home().glob(place.format(version)), reverse=True)]
    check = f"import ensurepip, sys, venv; assert '%d.%d' % sys.version_info[:2] == '{version}'"
    for python in found:
        if subprocess.run([python, "-c", check], capture_output=True, check=False).returncode == 0:
            return python
    raise UserError(f"no Python {version} with venv was found here: put one on the PATH as python{version}")


def bare_environment(folder: Path, python: Path) -> Path:
    """The Python of an environment with the packages of bare-machine.txt; several GB with a CUDA build of torch.

    Raises:
        UserError: pip could not install them.
    """
    lines = BARE_MACHINE.read_text(encoding="utf-8").splitlines()
    told = f"installing what the bare machine has into {folder}: some minutes, and several GB"
    try:
        return environment(folder, python, [[line for line in lines if not line.startswith("#")]], told)
    except UserError as error:
        raise UserError(f"the bare machine's packages cannot be installed: {error}") from None


def rehearse(python: Path, checkout: Path, out: Path) -> "subprocess.CompletedProcess[bytes]":
    """Run gpu.sh of a checkout, whose .gpu/ holds a bundle."""
    others = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    environment = {name: value for name, value in os.environ.items() if name not in others}
    environment |= {"DEVICE": "cpu", "PYTHON": str(python), "OUT": str(out)}
    return subprocess.run(["bash", "benchmarks/gpu.sh"], cwd=checkout, env=environment, check=False)


if __name__ == "__main__":
    main()
