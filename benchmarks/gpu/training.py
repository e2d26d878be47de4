"""Part 3: the speed of training, base and big, in the configurations of `benchmarks.training`, and where it goes.

Most of the time goes to compiling on the CPU. So all configurations compile and warm up side by side, each in a
process of its own, and then take turns: while one is measured the others wait.
"""

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from benchmarks.gpu import profile
from benchmarks.gpu.parts import DEADLINE, Result, Row
from benchmarks.gpu.setting import DEVICE, REHEARSAL, SIZES, preset
from benchmarks.training import BASELINE, PACKED, Measured, print_heading, print_row, timed, warmed
from transformer.errors import DeviceMemoryError, UserError
from transformer.model.device import select_device

UPDATES = {PACKED: 60, BASELINE: 10}
CONFIGURATIONS = [PACKED, BASELINE]  # what matters most first: ours at both sizes
AIMS = {"base": 0.35, "big": 0.50}  # of the peak, one H100
PAPERS_UPDATES = 100_000  # paper, section 5.2: of the base model
TURNS = 0.3  # of the part's time is kept for the measurements
COMPILERS = 3  # processes that compile for each configuration; by default there would be as many as cores

READY = "ready"  # says a process that has warmed up
Key = tuple[str, str]  # configuration and size


def measure(result: Result) -> None:
    """What has been measured is written before the next turn begins.

    Raises:
        UserError: a configuration failed; the others have been measured. Or there is no GPU.
    """
    select_device(DEVICE)
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = str(COMPILERS)
    found: dict[str, dict[str, Measured]] = {size: {} for size in SIZES}
    profiles: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for (name, size), answer in side_by_side([(name, size) for name in CONFIGURATIONS for size in SIZES]):
        if isinstance(answer, str):
            absent[f"{size}, {name}"] = answer
        else:
            found[size][name], where = answer
            profiles |= {size: where} if where else {}
        result.record(
            rows=[row for each in SIZES for row in [*rows(each, found[each]), *profile.rows(each, profiles)]],
            measured={each: [asdict(one) for one in by_name.values()] for each, by_name in found.items()},
            profiles=profiles,
            absent=absent,
        )
    if failed := [f"{which} {why}" for which, why in absent.items() if why.startswith("failed")]:
        raise UserError("; ".join(failed))


def side_by_side(keys: list[Key]) -> Iterator[tuple[Key, Any]]:
    """Each configuration's figures, or in words why there are none, in their order once all have warmed up."""
    begun, deadline = time.monotonic(), float(os.environ[DEADLINE])
    processes = {key: _started(key) for key in keys}
    try:
        waiting = {connection for _, connection in processes.values()}
        while waiting and (left := begun + (1 - TURNS) * (deadline - begun) - time.monotonic()) > 0:
            waiting -= set(wait(list(waiting), left))
        for key, (process, connection) in processes.items():
            if connection in waiting:
                process.kill()  # or it would disturb the turns of the others
                yield key, "did not compile in its time"
        for key, (process, connection) in processes.items():
            if connection not in waiting:
                yield key, _turn(process, connection, deadline)
    finally:
        for process, _ in processes.values():
            process.kill()


def _started(key: Key) -> tuple[BaseProcess, "Connection[Any, Any]"]:
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_measured, args=(*key, theirs), daemon=True)
    process.start()
    theirs.close()  # so that the end of the process is the end of the connection
    return process, ours


def _turn(process: BaseProcess, connection: "Connection[Any, Any]", deadline: float) -> Any:
    try:
        if (told := connection.recv()) != READY:  # why it could not warm up
            return told
        connection.send(None)
        if not connection.poll(max(0.0, deadline - time.monotonic())):
            process.kill()
            return "cut: too little time"
        return connection.recv()
    except (EOFError, OSError):
        process.join()
        return f"failed: its process ended with {process.exitcode}"


def _measured(name: str, size: str, connection: "Connection[Any, Any]") -> None:
    """In a process of its own: warm up, wait for the turn, send the figures."""
    try:
        answer = _figures(name, size, connection)
    except (DeviceMemoryError, torch.OutOfMemoryError):
        answer = "does not fit into the device's memory"
    except Exception as error:
        traceback.print_exc(file=sys.stdout)
        answer = f"failed: {traceback.format_exception_only(error)[-1].strip()[:300]}"
    connection.send(answer)


def _figures(name: str, size: str, connection: "Connection[Any, Any]") -> tuple[Measured, Any] | str:
    """The configuration's figures and its profile, None but for ours; or why there are none."""
    params = preset(SIZES[size])
    with warmed(name, params, None) as ready:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        connection.send(READY)
        connection.recv()
        if ready is None:
            return "not on this device"
        print_heading(SIZES[size], params)
        found = timed(name, *ready, 2 if REHEARSAL else UPDATES[name])
        print_row(found, None)
        return found, profile.profiled(*ready) if name == PACKED else None


def rows(size: str, found: dict[str, Measured]) -> list[Row]:
    """The table's lines of one size, as far as its configurations have been measured."""
    ours, theirs = found.get(PACKED), found.get(BASELINE)
    if ours is None:
        return []
    used, aim = ours.utilization, AIMS[size]
    figure = "-" if used is None else f"{used:.1%}"
    lines = [
        Row(f"{size}: model FLOPs utilisation", figure, f">= {aim:.0%}", None if used is None else used >= aim),
        Row(
            f"{size}: target tokens/s, ms an update",
            f"{ours.tokens_per_second:,.0f}, {1e3 * ours.seconds_per_update:.1f}",
        ),
        Row(f"{size}: memory", f"{ours.memory_gb:.1f} GB"),
    ]
    if size == "base":
        hours = ours.seconds_per_update * PAPERS_UPDATES / 3600
        lines.append(Row("base: 100k updates", f"{hours:.2f} h", "< 1 h", hours < 1))
    if theirs:
        ratio = ours.tokens_per_second / theirs.tokens_per_second
        lines.append(Row(f"{size}: against `torch.nn.Transformer`", f"{ratio:.2f} x", ">= 1.5 x", ratio >= 1.5))
    lines.append(Row(f"{size}: wait for data", f"{ours.data_wait:.2%}", "< 2 %", ours.data_wait < 0.02))
    again = ours.compiled_again
    lines.append(Row(f"{size}: graphs compiled after the warm-up", str(again), "0", again == 0))
    return lines
