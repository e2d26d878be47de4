"""A checkout in which every stage has run once, and what it takes to plant faults in a copy of it."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from published_corpus import write_published_corpus
from tiny_inputs import CHECKOUT
from workspace import STAGES, Workspace, tiny_files

from transformer.files import files_below, sha256_of

PLANTED = CHECKOUT / "tests" / "support" / "planted_faults"
FAULTS = int(os.environ.get("FAULTS", "2"))  # how often each random fault is planted; 20 for the figures of the docs
# What each stage makes, beside dvc.lock.
MADE = {
    "download": ["data/raw", "data/manifest.json"],
    "prepare": ["data/corpus", "reports/corpus.json"],
    "parent": ["models/parent"],
    "tokenize": ["data/tokens", "reports/tokens.json"],
    "train": ["models/checkpoints", "reports/training.json", "reports/curves"],
    "average": ["models/averaged"],
    "export": ["models/export"],
    "evaluate": ["reports/translations", "reports/metrics.json", "reports/attention", "reports/plots"],
}


@dataclass(frozen=True)
class Ended:
    """How a command ended and what it printed."""

    status: int
    printed: str

    def in_one_line(self, prefix: str = "error: ") -> str:
        """The line with which a stage or command, by its prefix, told the user what went wrong.

        Raises:
            AssertionError: it succeeded, or there is no such line, or a stack trace.
        """
        assert self.status != 0, self.printed
        assert "Traceback" not in self.printed, self.printed
        lines = [line for line in self.printed.splitlines() if line.startswith(prefix)]
        assert len(lines) == 1, self.printed
        return lines[0]


class Checkout(Workspace):
    """A workspace whose stages can be run again one by one, without what DVC and they remember of the last run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.environment |= {
            "TRANSFORMER_MIRROR": str(folder.parent / "mirror"),
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def copy_to(self, folder: Path) -> "Checkout":
        """The same checkout elsewhere, its mirror too."""
        shutil.copytree(self.folder, folder, symlinks=True)
        mirror = self.folder.parent / "mirror"
        if mirror.exists() and not (folder.parent / "mirror").exists():
            shutil.copytree(mirror, folder.parent / "mirror")
        return Checkout(folder)

    def remove(self) -> None:
        """Delete it; tests leave many."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def forget(self, stage: str) -> None:
        """Have the next `dvc repro STAGE` do all of the stage's work: no run cache, no state, no download."""
        shutil.rmtree(self.folder / ".dvc" / "cache" / "runs", ignore_errors=True)
        work = {"download": "downloads", "train": "training"}.get(stage, stage)
        shutil.rmtree(self.folder / "work" / work, ignore_errors=True)

    def once_more(self, stage: str, **planted: str) -> Ended:
        """`dvc repro --single-item --force STAGE` in a process group of its own, with faults from the environment."""
        command = [sys.executable, "-m", "dvc", "repro", "--single-item", "--force", stage]
        return self.ended(command, **planted)

    def ended(self, command: list[str], timeout: float = 240, **planted: str) -> Ended:
        """Run a command in a process group of its own."""
        process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment | {"PYTHONPATH": str(PLANTED), **planted} if planted else self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            printed, _ = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Ended(process.returncode, printed)

    def made(self, stage: str) -> dict[str, str]:
        """SHA-256 of every file that the stage makes, and of dvc.lock."""
        files = [self.folder / "dvc.lock"]
        for name in MADE[stage]:
            path = self.folder / name
            files += files_below(path) if path.is_dir() else [path]
        return {path.relative_to(self.folder).as_posix(): sha256_of(path) for path in files}


def finished_checkout(folder: Path) -> None:
    """Make the checkout `folder`/checkout, and the mirror of its corpus beside it."""
    made = tiny_files(folder / "checkout")
    write_published_corpus(made.folder)
    checkout = Checkout(made.folder)
    checkout.git("init", "-b", "main")
    checkout.git("add", ".")
    checkout.git("commit", "-m", "tiny")
    assert checkout.repro() == STAGES
    checkout.send()
    checkout.git("add", ".")
    checkout.git("commit", "-m", "results")
