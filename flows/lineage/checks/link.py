"""One result of `lineage verify`: what was compared with what, and how it came out."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """How a comparison came out."""

    OK = "ok"
    ACCEPTED = "accepted"  # they differ, and somebody answers for that it changes no result
    UNSIGNED = "unsigned"  # nobody answers for it with a signature
    MISSING = "missing"  # one side was not found, so nothing is proved
    BROKEN = "BROKEN"  # both sides are there and differ


@dataclass(frozen=True)
class Link:
    """One comparison."""

    stage: str
    what: str  # the file, folder or property
    where: str  # the place that was compared: workspace, cache, dvc.lock, git, MLflow, …
    status: Status
    detail: str = ""

    def __str__(self) -> str:
        joint = "" if not self.detail else " " if self.status is Status.ACCEPTED else ": "
        return f"{self.status}{joint}{self.detail}"


def compared(stage: str, what: str, where: str, expected: Any, found: Any, name: str = "") -> Link:
    """`ok` if the two are equal, `missing` if nothing was found (None)."""
    if found is None:
        return missing(stage, what, where, "not there")
    if expected == found:
        return Link(stage, what, where, Status.OK)
    prefix = f"{name}: " if name else ""
    return Link(stage, what, where, Status.BROKEN, f"{prefix}expected {_short(expected)} found {_short(found)}")


def compared_maps(stage: str, what: str, where: str, expected: dict[str, Any], found: dict[str, Any]) -> Link:
    """Compare two tables; the first key that differs is named."""
    absent = object()
    for key in [*expected, *(key for key in found if key not in expected)]:
        one, other = expected.get(key, absent), found.get(key, absent)
        if one != other:
            words = ("nothing" if value is absent else _short(value) for value in (one, other))
            return Link(stage, what, where, Status.BROKEN, "{}: expected {} found {}".format(key, *words))
    return Link(stage, what, where, Status.OK)


def missing(stage: str, what: str, where: str, why: str) -> Link:
    """A comparison that could not be made."""
    return Link(stage, what, where, Status.MISSING, why)


def broken(stage: str, what: str, where: str, why: str) -> Link:
    """A comparison that failed for another reason than two unequal values."""
    return Link(stage, what, where, Status.BROKEN, why)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 72 else f"{text[:69]}..."


def of_parent(link: Link) -> Link:
    """The same comparison in the chain of the parent."""
    return replace(link, stage=f"parent {link.stage}".strip())
