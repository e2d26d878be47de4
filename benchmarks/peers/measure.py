"""One training in a process of its own, by the same clock as all others."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.registry import CHECKOUT, Peer
from benchmarks.peers.trainings.trial import RESULT, Trial
from transformer.errors import UserError

LOG = "log.txt"
MOST_SECONDS = 3600
# Of this checkout's environment, and what would have a peer ask a network.
NOT_FOR_PEERS = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
OFFLINE = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}


@dataclass(frozen=True)
class Measured:
    """A training's figures, counted by the same clock in each."""

    target_tokens: int  # without padding, after the warm-up
    updates: int
    seconds: float
    cpu_seconds: float  # user and system
    loss: float  # smoothed cross-entropy a target token, the mean of the last updates
    parameters: int

    @property
    def tokens_per_second(self) -> float:
        """Target tokens by the wall clock."""
        return self.target_tokens / self.seconds

    @property
    def cpu_seconds_per_1000(self) -> float:
        """CPU seconds for 1000 target tokens."""
        return 1000 * self.cpu_seconds / self.target_tokens


def train(peer: Peer, python: Path, trial: Trial) -> Measured:
    """Run the trial in its folder, which is emptied before; what the toolkit prints is kept there.

    Raises:
        UserError: it ended otherwise than with a result; the last line that it printed.
    """
    shutil.rmtree(trial.folder, ignore_errors=True)
    trial.folder.mkdir(parents=True)
    trial.ask()
    settings = {name: value for name, value in os.environ.items() if name not in NOT_FOR_PEERS} | OFFLINE
    log = trial.folder / LOG
    with log.open("w", encoding="utf-8") as stream:
        try:
            done = subprocess.run(
                [python, *peer.command, trial.folder], cwd=CHECKOUT, env=settings, stdin=subprocess.DEVNULL,
                stdout=stream, stderr=subprocess.STDOUT, check=False, timeout=MOST_SECONDS,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UserError(f"not done after {MOST_SECONDS} s, see {os.path.relpath(log)}") from None
    result = trial.folder / RESULT
    if done.returncode or not result.exists():
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        told = [line.strip() for line in lines if line.strip()] or [f"exit status {done.returncode}"]
        raise UserError(f"{told[-1][:200]} (see {os.path.relpath(log)})")
    return Measured(**json.loads(result.read_text(encoding="utf-8")))
