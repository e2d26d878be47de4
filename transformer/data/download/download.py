"""The download stage: from the entries of data/corpora.yaml to verified files and the list of parts."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from transformer.data.download.archive import extract, require_space
from transformer.data.download.cache import SourceCache
from transformer.data.download.chosen import check_local_files, chosen_corpora, spelled, spelled_among
from transformer.data.download.corpora import SIDES, Corpus, Entry, LocalCorpus, PartEntry, load_corpora
from transformer.data.download.local import copy_local, local_files, local_parts
from transformer.data.download.transfer import MIRROR_VARIABLE, Patience, catalogue_languages
from transformer.data.parts import Part, write_parts
from transformer.files import link_or_copy, sha256_of, write_json
from transformer.params import DownloadParams, LanguageParams

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ManifestEntry:
    """A line of the manifest: one source file, as it was fetched."""

    file: str  # corpus/name
    source: str
    bytes: int
    sha256: str
    licence: str
    raw: list[str]  # what it became in the raw folder


class Fetched(NamedTuple):
    """What a corpus brought."""

    parts: list[Part]
    files: list[ManifestEntry]
    times: dict[str, str]  # when each of the files was fetched


def download(
    params: DownloadParams,
    languages: LanguageParams,
    corpora: Path,
    raw: Path,
    manifest: Path,
    cache: Path,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, str]:
    """Fetch what the chosen corpora have in the two languages.

    Nothing that it writes holds a time, so equal downloads give equal bytes.

    Args:
        params: which corpora, and how often and how long to try.
        languages: source and target; a corpus is good for either direction.
        corpora: data/corpora.yaml.
        raw: emptied, then filled with `<corpus>/<file>` and the list of parts.
        manifest: where each file came from.
        cache: verified source files and unfinished transfers, kept between runs.
        sleep: waits between attempts.

    Returns:
        When each source was fetched, by `<corpus>/<file>`: UTC, ISO 8601.

    Raises:
        ParamsError: unknown corpus or language, or a malformed data/corpora.yaml.
        DownloadError: a source cannot be fetched, or the disk is too full.
        DataError: a source has another size or hash than data/corpora.yaml says.
    """
    chosen = chosen_corpora(params, languages, load_corpora(corpora), corpora)
    check_local_files(chosen, languages, corpora)
    patience = Patience(params.retries, params.timeout_seconds, sleep)
    sources = SourceCache(cache, patience, os.environ.get(MIRROR_VARIABLE))
    _check_disk(chosen, languages, sources)
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    parts: list[Part] = []
    files: list[ManifestEntry] = []
    times: dict[str, str] = {}
    for name, entry in chosen.items():
        pair = spelled(name, entry, languages)
        if isinstance(entry, LocalCorpus):
            fetched = _fetch_local(name, entry, pair, corpora, raw)
        else:
            fetched = _fetch_published(name, entry, pair, sources, raw)
        parts += fetched.parts
        files += fetched.files
        times |= fetched.times
    write_parts(raw, parts)
    write_json(manifest, {"files": [vars(file) for file in files]})
    return times


def needed_files(corpus: Corpus, languages: LanguageParams) -> dict[str, list[str]]:
    """The files that the language pair needs, each with the members to extract (none: the file is used as it is)."""
    wanted: dict[str, list[str]] = {}
    for part in corpus.parts:
        for language, side in zip((languages.source, languages.target), SIDES, strict=True):
            path = part.path(language, side)
            members = wanted.setdefault(part.archive or path, [])
            if part.archive and path not in members:
                members.append(path)
    return wanted


def _check_disk(chosen: dict[str, Entry], languages: LanguageParams, sources: SourceCache) -> None:
    wanted = {
        (file, entry.files[file])  # a set: corpora may share files
        for name, entry in chosen.items()
        if isinstance(entry, Corpus)
        for file in needed_files(entry, spelled(name, entry, languages))
    }
    missing = sum(sources.missing_bytes(file, source) for file, source in wanted)
    sources.folder.mkdir(parents=True, exist_ok=True)
    require_space(sources.folder, missing, "the download")


def _fetch_published(
    name: str, corpus: Corpus, languages: LanguageParams, sources: SourceCache, raw: Path
) -> Fetched:
    files, times = [], {}
    for file, members in needed_files(corpus, languages).items():
        source = corpus.files[file]
        path = sources.fetch(file, source)
        if members:
            extract(path, members, raw / name)
        else:
            _link(path, raw / name / file)
        files.append(
            ManifestEntry(
                file=f"{name}/{file}",
                source=source.url or f"package {source.wheel}",
                bytes=path.stat().st_size,
                sha256=source.sha256 or sha256_of(path),
                licence=source.licence or corpus.licence,
                raw=[f"{name}/{member}" for member in members] or [f"{name}/{file}"],
            )
        )
        times[f"{name}/{file}"] = _utc(path.stat().st_mtime)
    parts = [_published_part(name, part, languages, raw) for part in corpus.parts]
    return Fetched(parts, files, times)


def _published_part(name: str, part: PartEntry, languages: LanguageParams, raw: Path) -> Part:
    if part.format == "catalogue":  # which languages it has, its members tell
        wheel = raw / name / part.path(languages.source, "src")
        languages = spelled_among(name, catalogue_languages(wheel, part.member), languages)
    places = part.places([languages.source, languages.target])
    source_field, target_field = (places.get(language, "") for language in (languages.source, languages.target))
    return Part(
        corpus=name,
        name=part.name,
        split=part.split,
        format=part.format,
        source=f"{name}/{part.path(languages.source, 'src')}",
        target=f"{name}/{part.path(languages.target, 'ref')}",
        source_language=languages.source,
        target_language=languages.target,
        source_field=str(source_field),
        target_field=str(target_field),
        header=True if part.format == "tsv" and isinstance(source_field, str) else None,
        width=part.width,
        blank_lines=part.blank_lines,
    )


def _fetch_local(name: str, corpus: LocalCorpus, languages: LanguageParams, corpora: Path, raw: Path) -> Fetched:
    files, times = [], {}
    for path, file in local_files(name, corpus, languages):
        copy_local(file, raw / path)
        size, digest = (raw / path).stat().st_size, sha256_of(raw / path)
        files.append(ManifestEntry(path, str(file), size, digest, corpus.licence, [path]))
        times[path] = _utc(time.time())
    return Fetched(local_parts(name, corpus, languages, f"{corpora}: {name}"), files, times)


def _link(file: Path, target: Path) -> None:
    """A hard link to a verified file, or a copy where the file system has no links."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.stat().st_dev != target.parent.stat().st_dev:
        require_space(target.parent, file.stat().st_size, target.name)
    link_or_copy(file, target)


def _utc(timestamp: float) -> str:
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="seconds")
