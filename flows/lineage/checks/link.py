"""One result of `lineage verify`: what was compared with what, and how it came out."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

# Beginnings of the places that are the workspace's, or compared with its dvc.lock: what a merge changes half.
OF_WORKSPACE = (
    "workspace",
    "dvc.lock at HEAD",
    "made by ",
    "its definition",
    "its stage",
    "the record of the same inputs",
    "data/",  # lists that are files of it
    "models/",
    "the file itself",
)


class Status(StrEnum):
    """How a comparison came out, the gravest last but for what was left out on demand."""

    OK = "ok"
    UNSIGNED = "unsigned"  # nobody answers for it with a signature
    CHANGED = "changed"  # both are right, each at its time: code that decides no output
    ACCEPTED = "accepted"  # they differ, and somebody answers for that it changes no result
    MISSING = "missing"  # one side was not found, so nothing is proved
    BROKEN = "BROKEN"  # both sides are there and differ
    LEFT_OUT = "left out"  # one side is where this clone can't look, and `--offline` was given


@dataclass(frozen=True)
class Link:
    """One comparison."""

    stage: str
    what: str  # the file, folder or property
    where: str  # the place that was compared: workspace, cache, dvc.lock, git, MLflow, …
    status: Status
    detail: str = ""
    do: str = ""  # of what is missing: the command that would make it known
    beyond: str = ""  # of what is missing because this clone can't look there: where that is

    @property
    def only_counts(self) -> bool:
        """Whether a reader need not see it by itself: it is ok, left out on demand, or nobody ever signed it."""
        never_signed = self.status is Status.UNSIGNED and not self.detail
        return never_signed or self.status in (Status.OK, Status.LEFT_OUT)

    def __str__(self) -> str:
        if self.status is Status.ACCEPTED:  # by somebody
            return f"{self.status} {self.detail}"
        return ": ".join(filter(None, (self.status, self.detail, self.do)))


def compared(
    stage: str, what: str, where: str, expected: Any, found: Any, name: str = "", do: str = "", beyond: str = ""
) -> Link:
    """`ok` if the two are equal, `missing` if nothing was found (None), which `do` would change."""
    if found is None:
        return missing(stage, what, where, "not there", do, beyond)
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


def missing(stage: str, what: str, where: str, why: str, do: str = "", beyond: str = "") -> Link:
    """A comparison that could not be made; `do` is the command after which it can."""
    return Link(stage, what, where, Status.MISSING, why, do, beyond)


def broken(stage: str, what: str, where: str, why: str) -> Link:
    """A comparison that failed for another reason than two unequal values."""
    return Link(stage, what, where, Status.BROKEN, why)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 72 else f"{text[:69]}..."


def of_parent(link: Link) -> Link:
    """The same comparison in the chain of the parent."""
    return replace(link, stage=f"parent {link.stage}".strip())


def without_unreachable(link: Link) -> Link:
    """As `--offline` counts it: not missing, if this clone can't look there."""
    return replace(link, status=Status.LEFT_OUT) if link.status is Status.MISSING and link.beyond else link


def while_unfinished(link: Link, command: str) -> Link:
    """In the midst of a merge, rebase, … the workspace is nobody's result yet; what is kept elsewhere still is."""
    if link.status is not Status.BROKEN or not (link.where == "dvc.lock" or link.where.startswith(OF_WORKSPACE)):
        return link
    why = f"not committed yet, as a {command} is unfinished; {link.detail}"
    return replace(link, status=Status.MISSING, detail=why, do=f"git {command} --continue, or git {command} --abort")
