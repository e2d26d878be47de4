"""The prepared sentence pairs behind a chain, wherever their files are kept."""

import io
from collections import Counter
from dataclasses import dataclass

import pyarrow.parquet as pq

from flows.lineage.chain import Chain
from flows.lineage.project import Project

CORPUS = "data/corpus"
SPLITS = ("train", "valid", "test")
Pair = tuple[str, str]


@dataclass(frozen=True)
class LinesDifference:
    """What one split has more and less in B than in A."""

    split: str
    added: list[Pair]
    removed: list[Pair]
    common: int


def files_of(project: Project, chain: Chain, folder: str) -> dict[str, str]:
    """The files of an output folder with their MD5s; empty where the chain or every place lacks it."""
    step = chain.maker(folder)
    if step is None or folder not in step.outputs:
        return {}
    artifact = step.artifact(folder)
    if artifact and artifact.md5 == step.outputs[folder]:
        return artifact.files
    return project.places.cache.listing(step.outputs[folder]) or {}


def compare_lines(project: Project, a: Chain, b: Chain) -> list[LinesDifference] | None:
    """Split by split; None where the content of one side is not to be had."""
    files = [files_of(project, chain, CORPUS) for chain in (a, b)]
    differences = []
    for split in SPLITS:
        name = f"{split}.parquet"
        if name not in files[0] or name not in files[1]:
            return None
        contents = [project.content(f"{CORPUS}/{name}", one[name]) for one in files]
        if contents[0] is None or contents[1] is None:
            return None
        old, new = (_pairs(content) for content in contents if content is not None)
        added, removed = new - old, old - new
        common = (old & new).total()
        differences.append(LinesDifference(split, list(added.elements()), list(removed.elements()), common))
    return differences


def _pairs(content: bytes) -> "Counter[Pair]":
    table = pq.read_table(io.BytesIO(content), columns=["source", "target"])
    return Counter(zip(table["source"].to_pylist(), table["target"].to_pylist(), strict=True))
