"""Compares sources with the registry and the last download, and updates the registry where a change is accepted."""

import json
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import dvc.api
import pooch
import requests
from dvc.exceptions import DvcException

from flows.checkout.workspace import MANIFEST, REGISTRY
from flows.retraining.overrides import commented_yaml
from transformer.data.download.cache import address_of, downloader_of
from transformer.data.download.chosen import spelled
from transformer.data.download.corpora import LocalCorpus, SourceFile, load_corpora
from transformer.data.download.download import needed_files
from transformer.data.download.local import local_files
from transformer.data.download.transfer import MIRROR_VARIABLE, Patience
from transformer.errors import DataError
from transformer.files import atomic_path, sha256_of, write_json
from transformer.params import LanguageParams, Params

MEMORY = "work/sources.json"
Validators = dict[str, str]


@dataclass(frozen=True)
class Drift:
    """A source that differs from the registry or from the last download."""

    corpus: str
    file: str
    problem: str  # in words, with both hashes
    sha256: str  # of what is there now
    bytes: int
    kind: Literal["source", "registry", "file", "new file"]  # a file is the user's own; the registry knows no hash


class SourceCheck:
    """Compares the sources of one checkout with its registry and with its last download.

    Args:
        folder: the checkout.
        params: whose corpora and languages count.
        memory: a file that remembers what servers said about verified files (ETag, date, size).
        mirror: URL or folder that replaces the whole network, or None.
        thorough: fetch every source, whatever its server says about it.
    """

    def __init__(self, folder: Path, params: Params, memory: Path, mirror: str | None, thorough: bool) -> None:
        self.folder = folder
        self.params = params
        self.memory = memory
        self.mirror = mirror
        self.thorough = thorough
        self._remembered: dict[str, Validators] = json.loads(memory.read_text()) if memory.exists() else {}
        self._downloaded = _last_download(folder)

    def drifts(self) -> list[Drift]:
        """Every difference.

        Raises:
            DownloadError: a source can't be reached.
            DataError: a package index offers another file under the same version.
            ParamsError: the registry is malformed.
        """
        entries = load_corpora(self.folder / REGISTRY)
        found: list[Drift | None] = []
        for name in self.params.download.corpora:
            entry = entries[name]
            languages = spelled(name, entry, self.params.languages)
            if isinstance(entry, LocalCorpus):
                found += self._local(name, entry, languages)
            else:
                files = needed_files(entry, languages)
                found += [self._published(name, file, entry.files[file]) for file in files]
        write_json(self.memory, self._remembered)
        return [drift for drift in found if drift]

    def _local(self, corpus: str, entry: LocalCorpus, languages: LanguageParams) -> Iterator[Drift]:
        for raw, file in local_files(corpus, entry, languages):
            path = self.folder / file
            if not path.is_file():
                raise DataError(f"{REGISTRY}: {corpus}: {file} does not exist")
            digest, before = sha256_of(path), self._downloaded.get(raw)
            if digest != before:
                expected = f"was {before} at the last download" if before else "was never downloaded"
                problem = f"{file} is {digest} and {expected}"
                size = path.stat().st_size
                yield Drift(corpus, str(file), problem, digest, size, "file" if before else "new file")

    def _published(self, corpus: str, file: str, source: SourceFile) -> Drift | None:
        before = self._downloaded.get(f"{corpus}/{file}")
        if source.sha256 and before and before != source.sha256:
            problem = f"the registry names {source.sha256} and the last download was {before}"
            return Drift(corpus, file, problem, source.sha256, source.bytes or 0, "registry")
        address = address_of(file, source, self.mirror)
        said = self._validators(address)
        same_size = source.bytes is None or said.get("bytes", str(source.bytes)) == str(source.bytes)
        verified = {**said, "hash": source.known_hash}
        if said and same_size and not self.thorough and self._remembered.get(address) == verified:
            return None
        if drift := self._fetched(corpus, file, source, address):
            return drift
        self._remembered[address] = verified
        return None

    def _validators(self, address: str) -> Validators:
        """What a server (or file system) says about a file without sending it; empty if that is not enough."""
        if not address.startswith(("http://", "https://")):
            path = Path(urlsplit(address).path)
            return {"bytes": str(path.stat().st_size), "date": str(path.stat().st_mtime_ns)} if path.is_file() else {}
        try:
            timeout = self.params.download.timeout_seconds
            answer = requests.head(
                address, timeout=timeout, allow_redirects=True, headers={"Accept-Encoding": "identity"}
            )
        except requests.RequestException:
            return {}
        names = {"bytes": "Content-Length", "etag": "ETag", "date": "Last-Modified"}
        said = {key: answer.headers[name] for key, name in names.items() if name in answer.headers}
        return said if answer.ok and ("etag" in said or "date" in said) else {}

    def _fetched(self, corpus: str, file: str, source: SourceFile, address: str) -> Drift | None:
        """Fetch the file as it is now, and compare."""
        patience = Patience(self.params.download.retries, self.params.download.timeout_seconds)
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.memory.parent) as folder:
            target = Path(folder, file)
            fetch = downloader_of(source, self.mirror, patience, Path(folder, f"{file}.part"), expected_bytes=None)
            fetch(address, str(target), None)
            digest, size = sha256_of(target), target.stat().st_size
            known = digest if source.sha256 else pooch.file_hash(str(target), "md5")
        expected = source.sha256 or source.md5
        if known == expected and source.bytes in (None, size):
            return None
        problem = f"{address} is {digest} ({size} bytes) and the registry expects {expected} ({source.bytes} bytes)"
        return Drift(corpus, file, problem, digest, size, "source")


def source_check(main: Path, folder: Path, params: Params, thorough: bool) -> SourceCheck:
    """The check of a checkout, with the memory of the main workspace and the user's mirror."""
    return SourceCheck(folder, params, main / MEMORY, os.environ.get(MIRROR_VARIABLE), thorough)


def _last_download(folder: Path) -> dict[str, str]:
    """corpus/file -> SHA-256 in the manifest of the checkout's dvc.lock; empty if the manifest is lost."""
    try:
        manifest = dvc.api.read(MANIFEST, repo=str(folder), encoding="utf-8")
    except (DvcException, OSError):
        return {}
    return {record["file"]: record["sha256"] for record in json.loads(manifest)["files"]}


def accept(folder: Path, drifts: list[Drift]) -> None:
    """Update the sizes and hashes in the checkout's registry to the sources as they are now; comments stay."""
    kept = commented_yaml()
    document = kept.load((folder / REGISTRY).read_text(encoding="utf-8"))
    for drift in drifts:
        if drift.kind == "source":
            entry = document[drift.corpus]["files"][drift.file]
            entry.pop("md5", None)
            entry.update({"bytes": drift.bytes, "sha256": drift.sha256})
    with atomic_path(folder / REGISTRY) as temporary, temporary.open("w", encoding="utf-8") as stream:
        kept.dump(document, stream)


def link_local_files(main: Path, folder: Path, params: Params) -> None:
    """Link the user's own corpora into a worktree if they are not in git, so that their relative paths work there."""
    entries = load_corpora(folder / REGISTRY)
    for name in params.download.corpora:
        entry = entries.get(name)
        if not isinstance(entry, LocalCorpus):
            continue
        for _raw, file in local_files(name, entry, spelled(name, entry, params.languages)):
            if not (folder / file).exists() and (main / file).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                (folder / file).symlink_to(main / file)
