"""Does the manifest agree with the corpus registry about each source, and do the raw files agree with both?"""

from collections.abc import Iterator
from pathlib import Path

from flows.checkout.workspace import MANIFEST, RAW, REGISTRY
from flows.lineage.chain import Chain, registry_of
from flows.lineage.checks.commits import BEYOND_SHALLOW, UNSHALLOW
from flows.lineage.checks.contents import Contents
from flows.lineage.checks.link import Link, broken, compared, compared_maps, missing
from flows.lineage.project import Project
from flows.lineage.sources import Source, registry_sources
from flows.records.hashes import hash_file
from transformer.yaml12 import InvalidYamlError


def check_sources(project: Project, chain: Chain, contents: Contents) -> Iterator[Link]:
    """Each source has the address, licence, size and hash that the registry has, and the raw data has its bytes."""
    step = chain.maker(MANIFEST)
    if step is None:
        return
    if not chain.sources:
        why = "neither the manifest nor the registry was found"
        yield missing(step.stage, "sources", MANIFEST, why, *contents.fetched(MANIFEST))
        return
    text = registry_of(project, chain, step)
    corpora = step.params.get("download", {}).get("corpora", [])
    try:
        listed = {one.file: one for one in registry_sources(text, corpora)} if text else {}
    except (InvalidYamlError, KeyError, TypeError, AttributeError) as error:
        yield broken(step.stage, "sources", REGISTRY, f"expected a registry found {type(error).__name__} {error}")
        return
    for source in chain.sources:
        if not source.in_manifest:
            why = "the manifest was not found; this is from the registry"
            yield missing(step.stage, source.file, MANIFEST, why, *contents.fetched(MANIFEST))
        elif text is None:
            do, beyond = (UNSHALLOW, BEYOND_SHALLOW) if project.git.shallow else ("", "")
            why = "the registry of that download was not found"
            yield missing(step.stage, source.file, REGISTRY, why, do, beyond)
        else:
            yield _listed(step.stage, source, listed)
            yield from _raw(step.stage, source, chain, contents)


def _listed(stage: str, source: Source, listed: dict[str, Source]) -> Link:
    entry = listed.get(source.file) or next((one for one in listed.values() if one.origin == source.origin), None)
    if entry is None:
        return broken(stage, source.file, REGISTRY, f"expected {source.origin} found nothing")
    known = {"origin": entry.origin, "licence": entry.licence, "sha256": entry.sha256, "bytes": entry.bytes}
    expected = {key: value for key, value in known.items() if value is not None}
    return compared_maps(stage, source.file, REGISTRY, expected, {key: getattr(source, key) for key in expected})


def _raw(stage: str, source: Source, chain: Chain, contents: Contents) -> Iterator[Link]:
    """The file in data/raw, if the source was not unpacked, and the user's own file, if it still exists."""
    if source.raw == [source.file] and chain.here:
        raw = contents.workspace(RAW)
        found = raw.files.get(source.file) if raw else None
        yield compared(stage, source.file, RAW, source.sha256, found and found.sha256, "sha256")
    own = Path(source.origin)
    if chain.here and "://" not in source.origin and own.is_file():
        yield compared(stage, source.origin, "the file itself", source.sha256, hash_file(own).sha256, "sha256")
