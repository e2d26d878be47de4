"""Why records wait: in one line for the user of a stage, told once an outage, and of `send --wait`."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformer.files import write_private

SEND = "python -m flows.tracking.send"
What = Literal["can't be reached", "fails", "refuses"]


@dataclass(frozen=True)
class Problem:
    """Why the records of one run are still here."""

    uri: str
    what: What  # is away; answers, but does not take records, as with a full disk; does not take these records
    reason: str


def in_a_line(problems: Iterable[Problem], tracking: Path) -> str:
    """All problems in one line, each server named once with the number of runs that wait for it."""
    groups: dict[tuple[str, What], list[Problem]] = {}
    for problem in problems:
        groups.setdefault((problem.uri, problem.what), []).append(problem)
    return "; ".join(_group_in_words(uri, what, group, tracking) for (uri, what), group in groups.items())


def _group_in_words(uri: str, what: What, group: list[Problem], tracking: Path) -> str:
    runs = f"{len(group)} run{'s' if len(group) > 1 else ''}"
    first = group[0].reason
    if what == "refuses":
        return (
            f"MLflow at {uri} refuses records of {runs}, which wait in {tracking} ({first}): "
            f"`{SEND} --wait` tries again, `{SEND} --to URI` sends them to another server"
        )
    return f"MLflow at {uri} {what}; records of {runs} wait in {tracking} and are sent later ({first})"


def report_problem(tracking: Path, problem: str) -> None:
    """Leave one line for whichever stage looks first, to show the user, unless this outage was already reported."""
    if not _waiting(tracking).exists() and not _told(tracking).exists():
        write_private(_waiting(tracking), problem)


def problem_to_tell(tracking: Path) -> str | None:
    """The problem, returned to only one caller during each outage."""
    try:
        _waiting(tracking).replace(_told(tracking))
    except FileNotFoundError:
        return None
    return _told(tracking).read_text(encoding="utf-8")


def clear_problem(tracking: Path) -> None:
    """Nothing waits for a server any more: the next outage will be reported again."""
    _waiting(tracking).unlink(missing_ok=True)
    _told(tracking).unlink(missing_ok=True)


def _waiting(tracking: Path) -> Path:
    return tracking / "problem.txt"


def _told(tracking: Path) -> Path:
    return tracking / "problem-told.txt"
