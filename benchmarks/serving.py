"""`transformer serve` under load: many clients at once on loopback against one after the other.

    python -m benchmarks.serving                                     # models/averaged, 64 clients for 60 s
    python -m benchmarks.serving MODEL --clients 64 --seconds 60 --text data.en

Each client sends a sentence, waits for its translation and sends the next; one client goes before and after the
many, for half as long each. The sentences are those of data/corpus/test.parquet, or of a text file, in order.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

import pandas
import psutil

WARM_UP = 3.0  # seconds


@dataclass
class Load:
    """What clients were answered in a time."""

    clients: int
    seconds: float
    cpu: float = 0.0  # seconds of the server's processes
    latencies: list[float] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Sentences a second."""
        return len(self.latencies) / self.seconds

    @property
    def rate_of_cpu(self) -> float:
        """Sentences a second of the server's processor time: other work on the machine changes it less."""
        return len(self.latencies) / self.cpu

    def told(self) -> str:
        """One line."""
        cuts = statistics.quantiles(self.latencies, n=100)
        times = ", ".join(f"p{place} {1000 * cuts[place - 1]:.0f} ms" for place in (50, 95, 99))
        return (
            f"clients {self.clients:2d}: {self.rate:5.1f} sentences/s "
            f"({len(self.latencies)} in {self.seconds:.0f} s, "
            f"{self.cpu:.0f} s of processor time, {self.rate_of_cpu:.0f} sentences a second of it); {times}; "
            f"errors {len(self.errors)}"
        )


@dataclass(frozen=True)
class Server:
    """Where it listens, and what it uses."""

    port: int
    process: psutil.Process


async def ask(port: int, sentences: Iterator[str], load: Load, end: float) -> None:
    """One client, on one connection, until the time `end`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < end:
        body = json.dumps({"lines": [next(sentences)]}).encode()
        head = f"POST /translate HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        began = time.perf_counter()
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = next(line for line in answer.splitlines() if line.startswith("content-length:"))
        found = await reader.readexactly(int(length.split(":")[1]))
        load.latencies.append(time.perf_counter() - began)
        if not answer.startswith("http/1.1 200") or not json.loads(found)["translations"][0]:
            load.errors.append(answer.splitlines()[0])
    writer.close()


async def answered(port: int, sentences: Iterator[str], load: Load) -> None:
    """Add to `load` what its clients are answered."""
    began = time.perf_counter()
    asking = [ask(port, sentences, load, began + load.seconds) for _ in range(load.clients)]
    for problem in await asyncio.gather(*asking, return_exceptions=True):
        if problem:
            load.errors.append(repr(problem))
    load.seconds = time.perf_counter() - began


def measure(server: Server, sentences: Iterator[str], clients: int, seconds: float) -> Load:
    """So many clients for so long."""
    load, before = Load(clients, seconds), sum(server.process.cpu_times()[:2])
    asyncio.run(answered(server.port, sentences, load))
    load.cpu = sum(server.process.cpu_times()[:2]) - before
    return load


@contextmanager
def served(model: Path) -> Iterator[Server]:
    """A server of its own."""
    command = [sys.executable, "-m", "transformer", "serve", str(model), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        greeting = process.stdout.readline()
        if not greeting:
            sys.exit(f"the server has not started: status {process.wait()}")
        print(greeting, end="")
        yield Server(int(greeting.split()[0].rpartition(":")[2]), psutil.Process(process.pid))
        process.terminate()


def lines_a_batch(port: int, before: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Lines and batches since the ones of `before`."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:  # loopback
        rows = dict(line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if not line.startswith("#"))
    now = tuple(float(rows[f"transformer_batch_lines_{name}"]) for name in ("sum", "count"))
    return now[0] - before[0], now[1] - before[1]


def texts(file: Path | None) -> list[str]:
    """The sentences of a file, or of the test set, without empty ones."""
    if file:
        found = file.read_text(encoding="utf-8").splitlines()
    else:
        found = pandas.read_parquet("data/corpus/test.parquet")["source"].to_list()
    return [text for text in found if text.strip()]


def main() -> None:
    """Measure, and print a line each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", type=Path, default=Path("models/averaged"))
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--text", type=Path, help="a sentence a line (default: data/corpus/test.parquet)")
    asked = parser.parse_args()
    sentences = cycle(texts(asked.text))
    with served(asked.model) as server:
        measure(server, sentences, asked.clients, WARM_UP)
        alone = [measure(server, sentences, 1, asked.seconds / 2)]
        before = lines_a_batch(server.port)
        many = measure(server, sentences, asked.clients, asked.seconds)
        lines, batches = lines_a_batch(server.port, before)
        alone.append(measure(server, sentences, 1, asked.seconds / 2))
    for load in (alone[0], many, alone[1]):
        print(load.told())
    by_time = many.rate / statistics.mean(load.rate for load in alone)
    by_cpu = many.rate_of_cpu / statistics.mean(load.rate_of_cpu for load in alone)
    print(f"{by_time:.1f} x one at a time, {by_cpu:.1f} x in processor time; {lines / batches:.1f} lines a batch")
    print(f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}, its own included")
    if errors := [error for load in (*alone, many) for error in load.errors]:
        sys.exit(f"error: {len(errors)} requests failed: {errors[0]}")


if __name__ == "__main__":
    main()
