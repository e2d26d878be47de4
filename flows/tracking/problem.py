"""An outage of the tracking server is reported to the user once, by whichever stage looks first."""

from pathlib import Path

from transformer.files import write_text


def report_problem(tracking: Path, problem: str) -> None:
    """Leave one line for the next stage that looks, unless this outage has already been reported."""
    if not _waiting(tracking).exists() and not _told(tracking).exists():
        write_text(_waiting(tracking), problem)


def problem_to_tell(tracking: Path) -> str | None:
    """The problem, returned to only one caller during each outage."""
    try:
        _waiting(tracking).replace(_told(tracking))
    except FileNotFoundError:
        return None
    return _told(tracking).read_text(encoding="utf-8")


def clear_problem(tracking: Path) -> None:
    """The server answers again: the next outage will be reported again."""
    _waiting(tracking).unlink(missing_ok=True)
    _told(tracking).unlink(missing_ok=True)


def _waiting(tracking: Path) -> Path:
    return tracking / "problem.txt"


def _told(tracking: Path) -> Path:
    return tracking / "problem-told.txt"
