"""One stage as a process: `dvc repro --single-item STAGE`, its output line by line, its outcome, why it failed."""

import os
import re
import selectors
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path

from flows.processes import die_with_parent, groups
from transformer.credentials import without_credentials
from transformer.errors import ExitCode, UserError

POLL_SECONDS = 0.2
REMEMBERED_LINES = 100  # of the output, in which the reason of a failure is looked for

# A retry may help after these; after any other exit status a person has to change something first.
RETRY_HELPS = frozenset({ExitCode.FAILURE, ExitCode.DOWNLOAD_FAILED, ExitCode.INTERRUPTED})

_SKIPPED = re.compile(r"Stage '.*' didn't change, skipping")
_RESTORED = re.compile(r"Stage '.*' is cached - skipping run")
_EXITED = re.compile(r"failed to run: .*, exited with (-?\d+)$")
_BLOCKER = re.compile(r"\(PID (\d+)\): (.*)")
_DISK_FULL = re.compile(r"\[Errno 28\]|No space left on device")
_BUSY = re.compile(r"'([^']*)' is busy, it is being blocked by")


# DVC's advice to people who run it by hand.
_ADVICE = re.compile(r"To (track the changes with git|enable auto staging)|\s+(git add|dvc config)|Use `dvc push`")


class Outcome(StrEnum):
    """What DVC did with a stage; the names of the final states in Prefect."""

    COMPLETED = "Completed"
    SKIPPED = "Skipped"
    RESTORED = "Restored"


class StageError(UserError):
    """A stage did not succeed."""

    def __init__(self, message: str, exit_code: ExitCode, retry_helps: bool) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.retry_helps = retry_helps


def run_stage(
    run: str, stage: str, workspace: Path, identity: dict[str, str], on_line: Callable[[str], None]
) -> Outcome:
    """Have DVC bring one stage up to date on behalf of flow run `run`.

    Args:
        run: owner of the processes, as in `groups`.
        stage: name as `dvc repro` takes it.
        workspace: the DVC checkout.
        identity: environment variables by which the stage knows who started it.
        on_line: called with each line of output as it is written, DVC's advice to committers left out.

    Raises:
        StageError: the stage or DVC failed.
        RunStopped: the flow run is ending, and so has the stage.
    """
    last: deque[str] = deque(maxlen=REMEMBERED_LINES)
    outcome = Outcome.COMPLETED
    with groups.group_of(run, _command(stage), workspace, _environment(identity)) as process:
        for line in map(without_credentials, _lines(process)):
            last.append(line)
            if line and not _ADVICE.match(line):
                on_line(line)
            if _SKIPPED.match(line):
                outcome = Outcome.SKIPPED
            elif _RESTORED.match(line):
                outcome = Outcome.RESTORED
        status = process.wait()
    if groups.is_stopped(run):
        raise groups.RunStopped
    if status != 0:
        raise _failure(stage, workspace, list(last))
    return outcome


def _command(stage: str) -> list[str]:
    # Without --wait-for-lock another DVC command at the moment the stage ends would cost the stage's work.
    dvc = [str(Path(sys.executable).with_name("dvc")), "--wait-for-lock", "repro", "--single-item", stage]
    return [sys.executable, "-S", "-c", die_with_parent.PROGRAM, str(os.getpid()), *dvc]


def _environment(identity: dict[str, str]) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return os.environ | {"PATH": path, "PYTHONUNBUFFERED": "1"} | identity


def _lines(process: "subprocess.Popen[bytes]") -> Iterator[str]:
    """The output's lines as they come; waits in short steps, as Prefect's time-out can't interrupt a blocked read."""
    assert process.stdout is not None
    rest = b""
    with selectors.DefaultSelector() as ready:
        ready.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not ready.select(POLL_SECONDS):
                continue
            chunk = os.read(process.stdout.fileno(), 1 << 16)
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace").rstrip() for line in lines)
            if not chunk:
                break
    if rest:
        yield rest.decode(errors="replace").rstrip()


def _failure(stage: str, workspace: Path, lines: list[str]) -> StageError:
    """The reason in plain words, found in the output, since DVC always exits with 255."""
    output = "\n".join(lines)
    if _DISK_FULL.search(output):
        free = shutil.disk_usage(workspace).free / 1e9
        message = f"stage {stage}: the disk is full ({free:.1f} GB free in {workspace}); make room and start again"
        return StageError(message, ExitCode.FAILURE, retry_helps=False)
    if busy := _BUSY.search(output):
        blockers = ", ".join(f"{command} (process {pid})" for pid, command in _BLOCKER.findall(output))
        message = f"stage {stage}: {busy[1]} is in use by {blockers}; one pipeline at a time runs in a workspace"
        return StageError(message, ExitCode.FAILURE, retry_helps=True)
    reported = [line for line in lines if line.startswith("error: ")]
    if exited := _EXITED.search(output):
        number = int(exited[1])
        code = ExitCode(number) if number in set(ExitCode) else ExitCode.FAILURE
        reason = reported[-1].removeprefix("error: ") if reported else f"ended with {_in_words(number)}"
        return StageError(f"stage {stage}: {reason}", code, retry_helps=code in RETRY_HELPS)
    errors = [line for line in lines if line.startswith("ERROR: ")]
    reason = errors[-1].removeprefix("ERROR: ") if errors else "DVC failed without a message"
    return StageError(f"stage {stage}: {reason}", ExitCode.FAILURE, retry_helps=False)


def _in_words(status: int) -> str:
    return f"signal {-status}" if status < 0 else f"exit status {status}"
