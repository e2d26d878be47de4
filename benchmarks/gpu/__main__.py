"""Runs the parts one after the other, each in its own process and within its own time, and prints the table.

Needs nothing but the standard library, so that whatever fails in a part cannot touch the others.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn, TextIO

from benchmarks.gpu.parts import DEADLINE, Part, RefusedError, Result, chosen_parts, result_file
from benchmarks.gpu.table import SUMMARY_FILE, show

LOG_FILE = "log.txt"
BEGUN = time.monotonic()  # from which the log counts
FAREWELL_SECONDS = 2  # between SIGTERM and SIGKILL
REHEARSAL = 4.0  # times its own seconds, where a slow CPU stands in for the GPU


def main() -> None:
    """The exit status is 1 if a part failed or was cut, 2 if nothing could begin."""
    try:
        parts, out = chosen_parts(os.environ.get("PARTS", "")), Path(os.environ.get("OUT") or "reports/gpu")
        device = _device()
        scale = _scale(parts, device)
        _make_ready(out, parts)
    except RefusedError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    signal.signal(signal.SIGTERM, _interrupt)
    deadline = time.monotonic()
    failed, interrupted = False, False
    with (out / LOG_FILE).open("w", encoding="utf-8") as log, _caches() as environment:
        for part in parts:
            deadline += part.seconds * scale  # a part has its own seconds, and what those before it left
            try:
                status = _run(part, out, deadline, environment | {"DEVICE": device}, log)
            except KeyboardInterrupt:
                interrupted = True
                break
            failed |= status != "done"
    show(out)
    print(f"figures, {SUMMARY_FILE} and {LOG_FILE} are in {out}")
    sys.exit(130 if interrupted else int(failed))


def _device() -> str:
    device = os.environ.get("DEVICE", "cuda")
    if device not in ("cuda", "cpu"):
        raise RefusedError(f"DEVICE: {device!r} is neither cuda nor cpu")
    return device


def _scale(parts: list[Part], device: str) -> float:
    """How many times its own seconds each part has: as many as share BUDGET among the chosen ones, by default one."""
    if not (text := os.environ.get("BUDGET", "")):
        return REHEARSAL if device == "cpu" else 1.0
    try:
        budget = float(text)
    except ValueError:
        budget = 0.0
    if not 0 < budget < float("inf"):
        raise RefusedError(f"BUDGET: {text!r} is not a number of seconds")
    return budget / sum(part.seconds for part in parts)


def _make_ready(out: Path, parts: list[Part]) -> None:
    """Make the folder, without former results of these parts."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        (out / LOG_FILE).write_text("")
        for part in parts:
            result_file(out, part.name).unlink(missing_ok=True)
    except OSError as error:
        raise RefusedError(f"OUT: {out} cannot be written: {error.strerror}") from None


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


@contextmanager
def _caches() -> Iterator[dict[str, str]]:
    """The environment of the parts, which share what torch.compile makes: anew, unless it says where that is kept."""
    folder = tempfile.mkdtemp(prefix="gpu-caches-")
    made = {"TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor", "TRITON_CACHE_DIR": f"{folder}/triton"}
    try:
        yield made | os.environ
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(part: Part, out: Path, deadline: float, environment: dict[str, str], log: TextIO) -> str:
    """Run a part to its end or to the deadline, show and keep what it prints; returns how it ended."""
    path, begun = result_file(out, part.name), time.monotonic()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    Result(path, {"part": part.name, "time": now, "device": environment["DEVICE"], "status": "running",
                  "error": None, "seconds": 0.0, "rows": [], "figures": {}}).write()  # fmt: skip
    _say(f"== {part.name}: at most {max(0.0, deadline - begun):.0f} s", log)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu.part", part.name, str(path)],
        env=environment | {DEADLINE: str(deadline)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=_copy, args=(process.stdout, log), daemon=True)
    reader.start()
    error = None
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        error = "cut", f"cut after {time.monotonic() - begun:.0f} s, the end of its time"
    except KeyboardInterrupt:
        error = "cut", f"interrupted after {time.monotonic() - begun:.0f} s"
        raise
    finally:
        _kill(process)
        reader.join(FAREWELL_SECONDS)
        result = Result.read(path)
        if error is None and result.status == "running":
            error = "failed", f"its process ended with {_ending(process.returncode)}"
        if error:
            result.end(*error)
        result.content["seconds"] = round(time.monotonic() - begun, 1)
        result.write()
        _say(f"== {part.name}: {result.status} after {result.content['seconds']:.0f} s", log)
    return result.status


def _copy(stream: TextIO, log: TextIO) -> None:
    for line in stream:
        _say(line.rstrip("\n"), log)


def _say(line: str, log: TextIO) -> None:
    print(line, flush=True)
    with contextlib.suppress(ValueError):  # the last words of one that was killed come late
        print(f"{time.monotonic() - BEGUN:6.1f} s  {line}", file=log, flush=True)


def _kill(process: "subprocess.Popen[str]") -> None:
    """End all that the part has started, the processes of torchrun too, which have sessions of their own."""
    family = _descendants(process.pid)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(FAREWELL_SECONDS)


def _descendants(pid: int) -> list[int]:
    """The processes below this one, by /proc."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, queue = list[int](), [pid]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def _ending(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


if __name__ == "__main__":
    main()
