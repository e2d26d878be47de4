"""dvc.lock as the chain reads it: of each stage the command, the params and the MD5 of all it read and wrote."""

from dataclasses import dataclass
from typing import Any

import yaml

from flows.records.dvc_yaml import parse_yaml
from transformer.errors import DataError


@dataclass(frozen=True)
class LockedStage:
    """One stage's entry."""

    name: str
    command: str
    inputs: dict[str, str]  # path: MD5
    outputs: dict[str, str]
    params: dict[str, Any]


def parse_lock(text: str | bytes, origin: str) -> dict[str, LockedStage]:
    """The stages of a dvc.lock, in its order; `origin` names it in errors.

    Raises:
        DataError: it is not such a file.
    """
    try:
        stages = parse_yaml(text)["stages"]
        return {
            name: LockedStage(
                name=name,
                command=entry["cmd"],
                inputs={one["path"]: one["md5"] for one in entry.get("deps", [])},
                outputs={one["path"]: one["md5"] for one in entry.get("outs", [])},
                params=_by_section(entry.get("params", {}).get("params.yaml", {})),
            )
            for name, entry in stages.items()
        }
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{origin} is malformed: {type(error).__name__} {' '.join(str(error).split())}") from None


def owner_of(path: str, paths: dict[str, str]) -> str | None:
    """Which of `paths` is `path`, or the folder that holds it."""
    return next((one for one in paths if path == one or path.startswith(f"{one}/")), None)


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
