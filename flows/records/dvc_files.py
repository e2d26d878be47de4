"""What dvc.yaml and dvc.lock say that each stage reads, writes and depends on.

Parsed without importing DVC, which takes seconds. `flows.pipeline.graph` asks DVC itself for the order of the stages.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flows.checkout.workspace import PARAMS
from transformer.errors import DataError
from transformer.yaml12 import InvalidYamlError, parse_yaml

Stage = TypeVar("Stage")

REWRITE_SECONDS, LOOK_SECONDS = 2.0, 0.05
GPU_TAG = "gpu"  # in `meta.prefect.tags`: the stage wants its device, a GPU or the CPU, to itself


@dataclass(frozen=True)
class StageDefinition:
    """A stage of dvc.yaml: the paths of what it reads and writes, and the params it depends on."""

    name: str
    command: str
    inputs: list[str]
    outputs: list[str]
    reports: list[str]  # those of `outputs` that are metrics or plots
    uncached: list[str]  # those of `outputs` that DVC leaves to git
    params: list[str]
    tags: list[str]


@dataclass(frozen=True)
class LockedStage:
    """A stage of dvc.lock: what its last run read and wrote."""

    name: str
    command: str
    inputs: dict[str, str]  # path: MD5
    outputs: dict[str, str]
    params: dict[str, Any]


def parse_definition(text: str | bytes, origin: str) -> dict[str, StageDefinition]:
    """The stages of a dvc.yaml, in its order; `origin` names it in errors.

    Raises:
        DataError: it is malformed.
    """
    return _stages(text, origin, _definition)


def parse_lock(text: str | bytes, origin: str) -> dict[str, LockedStage]:
    """The stages of a dvc.lock, as `parse_definition` has those of a dvc.yaml."""
    return _stages(text, origin, _locked)


def parse_locked(name: str, text: str | bytes, origin: str) -> LockedStage:
    """One stage's entry alone, as DVC's run cache has it.

    Raises:
        DataError: it is malformed.
    """
    try:
        return _locked(name, parse_yaml(text, origin))
    except InvalidYamlError as error:
        raise DataError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{origin} is malformed: {type(error).__name__} {error}") from None


def read_lock(path: Path) -> dict[str, LockedStage]:
    """The stages of the dvc.lock at `path`; none if it is not there.

    DVC empties and writes it in place whenever a stage ends, beside which another one may begin: what is malformed is
    read again for a while.

    Raises:
        DataError: it stays malformed.
    """
    deadline = time.monotonic() + REWRITE_SECONDS
    while path.exists():
        try:
            return parse_lock(path.read_bytes(), path.name)
        except DataError:
            if time.monotonic() > deadline:
                raise
        time.sleep(LOOK_SECONDS)
    return {}


def _stages(text: str | bytes, origin: str, read: Callable[[str, dict[str, Any]], Stage]) -> dict[str, Stage]:
    try:
        return {name: read(name, entry) for name, entry in parse_yaml(text, origin)["stages"].items()}
    except InvalidYamlError as error:
        raise DataError(str(error)) from None
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{origin} is malformed: {type(error).__name__} {error}") from None


def _definition(name: str, entry: dict[str, Any]) -> StageDefinition:
    reports = {**_options(entry.get("metrics", [])), **_options(entry.get("plots", []))}
    outputs = {**_options(entry.get("outs", [])), **reports}
    return StageDefinition(
        name=name,
        command=entry["cmd"],
        inputs=list(_options(entry.get("deps", []))),
        outputs=list(outputs),
        reports=list(reports),
        uncached=[path for path, options in outputs.items() if options.get("cache") is False],
        params=entry.get("params", []),
        tags=((entry.get("meta") or {}).get("prefect") or {}).get("tags", []),
    )


def _options(entries: list[Any]) -> dict[str, dict[str, Any]]:
    """The options of each path; an entry is either a path or {path: options}."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        found |= entry if isinstance(entry, dict) else {entry: {}}
    return found


def _locked(name: str, entry: dict[str, Any]) -> LockedStage:
    return LockedStage(
        name=name,
        command=entry["cmd"],
        inputs={one["path"]: one["md5"] for one in entry.get("deps", [])},
        outputs={one["path"]: one["md5"] for one in entry.get("outs", [])},
        params=_by_section(entry.get("params", {}).get(PARAMS, {})),
    )


def _by_section(params: dict[str, Any]) -> dict[str, Any]:
    """DVC keeps a section that dvc.yaml lists key by key under dotted keys."""
    sections: dict[str, Any] = {}
    for name, value in params.items():
        section, _, key = name.partition(".")
        if key:
            sections.setdefault(section, {})[key] = value
        else:
            sections[section] = value
    return sections


def owner_of(path: str, paths: dict[str, str]) -> str | None:
    """Which of `paths` is `path`, or the folder that holds it."""
    return next((one for one in paths if path == one or path.startswith(f"{one}/")), None)
