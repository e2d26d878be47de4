"""A run's records on disk: an append-only file of events that survives its writer and any server outage."""

import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from transformer.files import HASH, OWNER_ONLY, hash_of, read_hashed_json, write_hashed_json, write_text

EVENTS_FILE = "events.jsonl"
POSITION_FILE = "sent.json"
REDIRECTION_FILE = "to.txt"
DAMAGED = "damaged"
Event = dict[str, Any]


@dataclass
class Refused:
    """Events that the server does not take: the bytes of the file that hold them, and what it said."""

    begin: int
    end: int
    reason: str


@dataclass
class Position:
    """How far the sender got at one server."""

    address: str | None  # of the server; None: the workspace's own store
    offset: int = 0  # everything before it was sent, or is in `refused`
    run: str | None = None  # MLflow's id
    ended: bool = False  # the run's end was among what was sent
    refused: list[Refused] = field(default_factory=list)


class Spool:
    """One run's folder: `events.jsonl`, artifacts in `files/`, how far the sender got in `sent.json`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.id = folder.name

    @classmethod
    def create(cls, tracking: Path, name: str) -> "Spool":
        """A new, empty spool; spools sort by the time of their creation."""
        folder = tracking / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{name}-{secrets.token_hex(3)}"
        (folder / "files").mkdir(parents=True)
        return cls(folder)

    @classmethod
    def waiting(cls, tracking: Path) -> "list[Spool]":
        """All spools with something left to send, oldest first."""
        return [cls(path.parent) for path in sorted(tracking.glob(f"*/{EVENTS_FILE}"))]

    def start(self, **content: Any) -> None:
        """Write the first event; it names the writing process, so that others can check whether it still runs."""
        process = psutil.Process()
        writer = {"pid": process.pid, "created": process.create_time(), "host": socket.gethostname()}
        self.append("start", writer=writer, **content)

    def append(self, event: str, **content: Any) -> None:
        """Append one event in a single write, so that a killed writer leaves only whole lines."""
        told = json.dumps({"event": event, "time": time.time_ns() // 1_000_000, **content}, allow_nan=False)
        read = json.loads(told)  # keys as they will be read, where some are numbers
        line = json.dumps({**read, HASH: hash_of(read)}) + "\n"
        descriptor = os.open(self.folder / EVENTS_FILE, os.O_WRONLY | os.O_APPEND | os.O_CREAT, OWNER_ONLY)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)

    def keep(self, path: Path, name: str) -> None:
        """Keep a file or folder as `files/<name>`: hard-linked, since outputs are replaced, never rewritten."""
        kept = self.folder / "files" / name
        kept.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            shutil.copytree(path, kept, copy_function=_link, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            _link(str(path), str(kept))

    def kept(self, name: str) -> Path:
        """The path of something that `keep` was given."""
        return self.folder / "files" / name

    def events(self, offset: int) -> Iterator[tuple[Event, int]]:
        """The whole events after byte `offset`, each with the offset behind it; a damaged line is one named so."""
        with (self.folder / EVENTS_FILE).open("rb") as stream:
            stream.seek(offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield _event(line), offset

    def address(self) -> str | None:
        """The tracking URI that the events are for; None: the workspace's own store, wherever that is now."""
        redirection = self.folder / REDIRECTION_FILE
        if redirection.exists():
            return redirection.read_text(encoding="utf-8")
        first = next(self.events(0), None)
        return first[0].get("uri") if first else None

    def redirect(self, address: str) -> None:
        """Have all events, those that were sent before too, sent to another server."""
        write_text(self.folder / REDIRECTION_FILE, address)

    def position(self) -> Position:
        """How far the sender got at the server that the events are for."""
        path, start = self.folder / POSITION_FILE, Position(self.address())
        kept = read_hashed_json(path)
        if not kept:  # damaged: what is sent again does no harm
            return start
        found = Position(**{**kept, "refused": [Refused(**one) for one in kept["refused"]]})
        return found if found.address == start.address else start

    def set_position(self, position: Position) -> None:
        """Record atomically how far the sender got."""
        write_hashed_json(self.folder / POSITION_FILE, asdict(position))

    def is_live(self) -> bool:
        """Whether the writing process still runs; one on another host counts as running."""
        first = next(self.events(0), None)
        if first is None or first[0]["event"] == DAMAGED:
            return False
        try:
            writer = first[0]["writer"]
            pid, created, host = int(writer["pid"]), float(writer["created"]), str(writer["host"])
        except (KeyError, TypeError, ValueError, OverflowError):  # of an older version, damaged
            return False
        if host != socket.gethostname():
            return True
        try:
            process = psutil.Process(pid)
            return process.status() != psutil.STATUS_ZOMBIE and abs(process.create_time() - created) < 1
        except (psutil.NoSuchProcess, ValueError, OverflowError):
            return False

    def remove(self) -> None:
        """Delete the spool: the server has everything."""
        (self.folder / EVENTS_FILE).unlink()  # first: a folder without events is not a spool any more
        shutil.rmtree(self.folder)


def _event(line: bytes) -> Event:
    """The event of a line, if no byte of it has changed; older versions wrote no hash."""
    damaged = {"event": DAMAGED, "time": 0}
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return damaged
    if not (isinstance(event, dict) and isinstance(event.get("event"), str) and isinstance(event.get("time"), int)):
        return damaged
    written = event.pop(HASH, None)
    return event if written in (None, hash_of(event)) else damaged


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
