"""Virtual environments with other packages than this checkout's own, made once and kept."""

import subprocess
from pathlib import Path

from transformer.errors import UserError
from transformer.files import write_text

INSTALL = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
STAMP = "installed.txt"


def environment(folder: Path, python: Path, installs: list[list[str]], told: str) -> Path:
    """The Python of an environment made by `python` with these calls of `pip install`, one after the other.

    Nothing is done where it is there as wanted. `told` is printed before an installation begins.

    Raises:
        UserError: there is no such environment, and pip or venv could not make it; its last line.
    """
    made, stamp = folder / "bin" / "python", folder / STAMP
    wanted = "".join(f"{line}\n" for line in (python, *(" ".join(words) for words in installs)))
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return made
    print(told, flush=True)
    stamp.unlink(missing_ok=True)
    _run([str(python), "-m", "venv", "--clear", str(folder)])
    for words in installs:
        _run([str(made), *INSTALL, *words])
    write_text(stamp, wanted)
    return made


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        errors = [line for line in lines if line.lower().startswith("error")]
        raise UserError((errors or lines)[-1].strip())
