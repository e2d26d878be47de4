"""Stage 1, download: from the registry's entries to verified files and the list of parts in the raw folder."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from transformer.data.download.archive import extract, require_space
from transformer.data.download.cache import SourceCache
from transformer.data.download.local import copy_local, local_parts
from transformer.data.download.params import DownloadParams
from transformer.data.download.registry import SIDES, Corpus, Entry, LocalCorpus, load_registry
from transformer.data.download.transfer import MIRROR_VARIABLE, Patience
from transformer.data.download.wheel import catalogue_languages
from transformer.data.parts import Part, write_parts
from transformer.errors import ParamsError
from transformer.files import sha256_of, write_json
from transformer.languages import LanguageParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """A line of the manifest: one source file, as it was fetched."""

    file: str  # corpus/name
    source: str
    bytes: int
    sha256: str
    licence: str
    time: str  # when it was fetched, UTC
    raw: list[str]  # what it became in the raw folder


def download(
    params: DownloadParams,
    languages: LanguageParams,
    registry: Path,
    raw: Path,
    manifest: Path,
    cache: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Fetch what the chosen corpora have in the two languages.

    Args:
        params: the corpora and the patience.
        languages: the direction; a corpus serves either.
        registry: data/corpora.yaml.
        raw: emptied, then filled with `<corpus>/<file>` and the list of parts.
        manifest: where each file came from; holds times.
        cache: verified source files and cut transfers, which survive between runs.
        sleep: waits between attempts.

    Raises:
        ParamsError: unknown corpus or language, or a malformed registry.
        DownloadError: a source cannot be fetched, or the disk is too full.
        DataError: a source is not what the registry says.
    """
    entries = load_registry(registry)
    chosen = {name: _chosen(entries, name, languages, registry) for name in params.corpora}
    patience = Patience(params.retries, params.timeout_seconds, sleep)
    sources = SourceCache(cache, patience, os.environ.get(MIRROR_VARIABLE))
    _check_disk(chosen, languages, sources)
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    parts: list[Part] = []
    records: list[Record] = []
    for name, entry in chosen.items():
        if isinstance(entry, LocalCorpus):
            fetched = _fetch_local(name, entry, languages, registry, raw)
        else:
            fetched = _fetch_published(name, entry, languages, sources, raw)
        parts += fetched[0]
        records += fetched[1]
    write_parts(raw, parts)
    write_json(manifest, {"files": [vars(record) for record in records]})


def _chosen(entries: dict[str, Entry], name: str, languages: LanguageParams, registry: Path) -> Entry:
    if name not in entries:
        raise ParamsError(f"download.corpora: {registry} has no corpus {name!r}; it has {', '.join(entries)}")
    entry = entries[name]
    if entry.languages:
        _check_languages(name, entry.languages, languages)
    return entry


def _check_languages(name: str, available: list[str], languages: LanguageParams) -> None:
    for key, language in (("source", languages.source), ("target", languages.target)):
        if language not in available:
            raise ParamsError(f"languages.{key} = {language!r}: corpus {name} has {', '.join(available)}")


def _wanted(corpus: Corpus, languages: LanguageParams) -> dict[str, list[str]]:
    """The files that the pair needs, each with the members to extract (none: the file is used as it is)."""
    wanted: dict[str, list[str]] = {}
    for part in corpus.parts:
        for language, side in zip((languages.source, languages.target), SIDES, strict=True):
            path = part.path(language, side)
            members = wanted.setdefault(part.archive or path, [])
            if part.archive:
                members.append(path)
    return wanted


def _check_disk(chosen: dict[str, Entry], languages: LanguageParams, sources: SourceCache) -> None:
    wanted = {
        (file, entry.files[file])  # a set: corpora may share files
        for entry in chosen.values()
        if isinstance(entry, Corpus)
        for file in _wanted(entry, languages)
    }
    missing = sum(sources.missing_bytes(file, source) for file, source in wanted)
    sources.folder.mkdir(parents=True, exist_ok=True)
    require_space(sources.folder, missing, "the download")


def _fetch_published(
    name: str, corpus: Corpus, languages: LanguageParams, sources: SourceCache, raw: Path
) -> tuple[list[Part], list[Record]]:
    records = []
    for file, members in _wanted(corpus, languages).items():
        source = corpus.files[file]
        path = sources.fetch(file, source)
        if members:
            extract(path, members, raw / name)
        else:
            _link(path, raw / name / file)
        records.append(
            Record(
                file=f"{name}/{file}",
                source=source.url or f"package {source.wheel}",
                bytes=path.stat().st_size,
                sha256=source.sha256 or sha256_of(path),
                licence=source.licence or corpus.licence,
                time=_utc(path.stat().st_mtime),
                raw=[f"{name}/{member}" for member in members] or [f"{name}/{file}"],
            )
        )
    parts = [
        Part(
            corpus=name,
            name=part.name,
            split=part.split,
            format=part.format,
            source=f"{name}/{part.path(languages.source, 'src')}",
            target=f"{name}/{part.path(languages.target, 'ref')}",
            source_language=languages.source,
            target_language=languages.target,
            source_field=part.member.replace("{language}", languages.source),
            target_field=part.member.replace("{language}", languages.target),
        )
        for part in corpus.parts
    ]
    for part, entry in zip(parts, corpus.parts, strict=True):
        if part.format == "catalogue":
            _check_languages(name, catalogue_languages(raw / part.source, entry.member), languages)
    return parts, records


def _fetch_local(
    name: str, corpus: LocalCorpus, languages: LanguageParams, registry: Path, raw: Path
) -> tuple[list[Part], list[Record]]:
    parts, records = [], []
    for part, behind in local_parts(name, corpus, languages):
        parts.append(part)
        for path, file in behind.items():
            copy_local(file, raw / path, f"{registry}: {name}")
            size, digest = (raw / path).stat().st_size, sha256_of(raw / path)
            records.append(Record(path, str(file), size, digest, corpus.licence, _utc(time.time()), [path]))
    return parts, records


def _link(file: Path, target: Path) -> None:
    """A second name for a verified file, or a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, target)
    except OSError:
        require_space(target.parent, file.stat().st_size, target.name)
        shutil.copyfile(file, target)


def _utc(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")
