"""Where DVC keeps contents by their MD5: its cache and its default remote."""

import hashlib
import json
import socket
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from flows.checkout.site_cache import use_private_site_cache
from flows.records.dvc_files import LockedStage, parse_locked
from flows.records.hashes import DIRECTORY_SUFFIX
from transformer.errors import DataError
from transformer.files import CHUNK_BYTES

PROBE_SECONDS = 2.0


class DvcStore:
    """A store of objects, each named by the MD5 of its content."""

    def __init__(self, name: str, odb: Any) -> None:
        self.name = name
        self._odb = odb

    def read(self, md5: str) -> bytes | None:
        """An object's content; None if it is not there."""
        chunks = self._chunks(md5)
        return None if chunks is None else b"".join(chunks)

    def md5_of(self, md5: str) -> str | None:
        """The MD5 that the object named `md5` really has; None if it is not there."""
        chunks = self._chunks(md5)
        if chunks is None:
            return None
        digest = hashlib.md5(usedforsecurity=False)
        for chunk in chunks:
            digest.update(chunk)
        return digest.hexdigest() + (DIRECTORY_SUFFIX if md5.endswith(DIRECTORY_SUFFIX) else "")

    def has(self, md5: str) -> bool:
        """Whether there is an object of this name, whatever its content."""
        return bool(self._odb.fs.exists(self._odb.oid_to_path(md5)))

    def listing(self, md5: str) -> dict[str, str] | None:
        """A folder's files with their MD5s; None if the listing is not there or malformed."""
        content = self.read(md5)
        try:
            return None if content is None else {one["relpath"]: one["md5"] for one in json.loads(content)}
        except (ValueError, KeyError, TypeError):
            return None

    def path_of(self, md5: str) -> Path:
        """Where a local store keeps, or would keep, the object."""
        return Path(self._odb.oid_to_path(md5))

    def _chunks(self, md5: str) -> Iterator[bytes] | None:
        try:
            stream = self._odb.fs.open(self._odb.oid_to_path(md5), "rb")
        except FileNotFoundError:
            return None
        return _read(stream)


def _read(stream: Any) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


class DvcStores:
    """The cache and the default remote of a DVC checkout."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def _repo(self) -> Any:
        from dvc.exceptions import DvcException
        from dvc.repo import Repo  # here: it takes half a second

        use_private_site_cache(self.root)
        try:
            return Repo(str(self.root))
        except DvcException as error:
            raise DataError(f"DVC can't read this checkout: {error}") from None

    @cached_property
    def cache(self) -> DvcStore:
        """DVC's cache of this checkout."""
        return DvcStore("cache", self._repo.cache.local)

    def was_run(self, stage: LockedStage) -> bool:
        """Whether DVC's run cache, from which it restores outputs without running anything, has this execution."""
        folder = Path(self._repo.stage_cache.cache_dir)
        for path in folder.glob("*/*/*"):
            try:
                if parse_locked(stage.name, path.read_bytes(), str(path)) == stage:
                    return True
            except (DataError, OSError):
                continue  # being written, or of another version of DVC's
        return False

    @cached_property
    def remote_name(self) -> str | None:
        """The name of the default remote; None if none is configured."""
        name = self._repo.config["core"].get("remote")
        return str(name) if name else None

    @cached_property
    def remote_problem(self) -> str | None:
        """Why the remote can't be read; None if it can."""
        settings = self._repo.config["remote"].get(self.remote_name)
        if settings is None:
            return f"remote {self.remote_name} is not configured"
        url = urlsplit(settings.get("endpointurl") or settings["url"])
        if url.scheme in ("", "file") or len(url.scheme) == 1:
            return None if Path(url.path).is_dir() else f"{url.path} is not there"
        host, port = {"s3": ("s3.amazonaws.com", 443)}.get(url.scheme, (url.hostname, url.port or _port(url.scheme)))
        try:
            socket.create_connection((host, port), timeout=PROBE_SECONDS).close()
        except OSError as error:
            return f"{host}:{port} does not answer ({error})"
        return None

    @cached_property
    def remote_answers(self) -> bool:
        """Whether there is a default remote that can be read."""
        return self.remote_name is not None and not self.remote_problem

    @cached_property
    def remote(self) -> DvcStore:
        """The default remote."""
        return DvcStore(f"remote {self.remote_name}", self._repo.cloud.get_remote_odb(self.remote_name))


def _port(scheme: str) -> int:
    return {"http": 80, "ssh": 22}.get(scheme, 443)
