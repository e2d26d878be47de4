"""The log of records: a line an execution, each with the hashes of the lines that were last when it was written.

So a line that is dropped or rewritten is missed by those that follow it, and older versions of the file in git hold
it. Lines need no order and may be there twice: after two branches have appended, git's `merge=union` keeps those of
both (.gitattributes), and the next line names the last ones of both.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from flows.checkout.workspace import RECORDS
from flows.records.record import SHA256, Record
from transformer.errors import DataError
from transformer.files import write_text

LOG = f"{RECORDS}/log.jsonl"


class Entry(BaseModel):
    """One line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    record: str = Field(pattern=SHA256, description="The digest")
    stage: str
    execution: str | None = Field(description="The record's runs.spool")
    ended: str = Field(description="UTC, ISO 8601")
    signer: str | None = Field(description="The id of the key that signed the record; null: none")
    previous: list[str] = Field(description="SHA-256 of each line that no other line followed")


@dataclass(frozen=True)
class Log:
    """The entries of a log by the hash of their line."""

    entries: dict[str, Entry]

    @property
    def last(self) -> list[str]:
        """The lines that none follows; more than one after a merge."""
        followed = {line for entry in self.entries.values() for line in entry.previous}
        return sorted(self.entries.keys() - followed)

    def of(self, record: Record) -> list[Entry]:
        """The entries of a record."""
        return [entry for entry in self.entries.values() if entry.record == record.expected_digest]

    @property
    def began(self) -> str | None:
        """When the first of its executions had ended; None if it is empty."""
        return min((entry.ended for entry in self.entries.values()), default=None)


def parse_log(text: str | bytes, origin: str) -> Log:
    """Read a log; `origin` names it in errors.

    Raises:
        DataError: a line is malformed.
    """
    entries, lines = dict[str, Entry](), (text.encode() if isinstance(text, str) else text).splitlines()
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                entries[hash_of_line(line)] = Entry.model_validate_json(line)
            except ValidationError:
                raise DataError(f"{origin}, line {number}: not an entry: keep both sides of a merge") from None
    return Log(entries)


def hash_of_line(line: str | bytes) -> str:
    """What the following lines call it."""
    return hashlib.sha256(line.encode() if isinstance(line, str) else line).hexdigest()


def next_line(root: Path, record: Record, signer: str | None) -> str:
    """The line that a record gets in the log of the checkout `root`, for `append`."""
    log = parse_log(_text(root), LOG)
    entry = Entry(
        record=record.digest,
        stage=record.stage,
        execution=record.runs.spool,
        ended=record.ended,
        signer=signer,
        previous=log.last,
    )
    return json.dumps(entry.model_dump(), separators=(",", ":"))


def append(root: Path, line: str) -> None:
    """Add a line to the log of the checkout `root`, atomically."""
    before = _text(root)
    write_text(root / LOG, f"{before}{'' if not before or before.endswith(chr(10)) else chr(10)}{line}\n")


def _text(root: Path) -> str:
    try:
        return (root / LOG).read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
