"""Where the raw data came from: the manifest of its download, or else the corpus registry."""

import json
from dataclasses import dataclass
from typing import Any

from flows.checkout.workspace import REGISTRY
from transformer.yaml12 import parse_yaml


@dataclass(frozen=True)
class Source:
    """One published or local file that the raw data was made from."""

    file: str  # corpus/name
    origin: str  # URL, package or path
    licence: str
    sha256: str | None  # None if only the registry is known and it has none
    bytes: int | None
    in_manifest: bool
    raw: list[str]  # what it became in data/raw

    @property
    def corpus(self) -> str:
        """The corpus it belongs to."""
        return self.file.partition("/")[0]


def manifest_sources(content: bytes) -> list[Source]:
    """The sources that a manifest lists."""
    return [
        Source(
            file=entry["file"],
            origin=entry["source"],
            licence=entry["licence"],
            sha256=entry["sha256"],
            bytes=entry["bytes"],
            in_manifest=True,
            raw=entry["raw"],
        )
        for entry in json.loads(content)["files"]
    ]


def registry_sources(content: bytes, corpora: list[str]) -> list[Source]:
    """All sources that a registry has for the named corpora, in all languages."""
    entries = parse_yaml(content, REGISTRY)
    return [source for name in corpora for source in _from_registry(name, entries.get(name, {}))]


def _from_registry(corpus: str, entry: dict[str, Any]) -> list[Source]:
    published = [
        Source(
            file=f"{corpus}/{file}",
            origin=source.get("url") or f"package {source['wheel']}",
            licence=source.get("licence") or entry["licence"],
            sha256=source.get("sha256"),
            bytes=source.get("bytes"),
            in_manifest=False,
            raw=[],
        )
        for file, source in entry.get("files", {}).items()
    ]
    paths = {
        str(value) for sides in entry.get("local", {}).values() for value in sides.values() if value in _paths(sides)
    }
    licence = entry.get("licence", "not stated")
    return published + [Source(f"{corpus}/{path}", path, licence, None, None, False, []) for path in sorted(paths)]


def _paths(sides: dict[str, Any]) -> list[Any]:
    """The files among a local split's entries: its one `file`, or one for each language."""
    return [sides["file"]] if "file" in sides else list(sides.values())
