"""Sources checked against registry and last download: a real web server, a mirror folder, the user's own files."""

import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_inputs import TINY_PARAMS

from flows.retraining.source_check import REGISTRY, Drift, SourceCheck, accept, link_local_files
from transformer.data.download.corpora import load_corpora
from transformer.errors import DataError, DownloadError
from transformer.files import write_json
from transformer.params import Params, params_from

HEADER = "# The registry: this comment stays.\n"


class Handler(SimpleHTTPRequestHandler):
    """Files with Last-Modified and length, as most servers send them; remembers what was asked."""

    requests: list[str]

    def send_head(self) -> Any:
        self.requests.append(f"{self.command} {self.path}")
        return super().send_head()

    def log_message(self, *_: object) -> None:
        pass


class Web:
    """A mirror of the network: a folder that a web server offers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.requests: list[str] = []
        self.changes = 0

    def write(self, name: str, text: str) -> None:
        path = self.folder / "example.org" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        self.changes += 1
        os.utime(path, (self.changes, self.changes))

    @contextmanager
    def serve(self) -> Iterator[str]:
        handler = type("Counting", (Handler,), {"requests": self.requests})
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(self.folder)))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
            server.server_close()


def tiny_params(*corpora: str) -> Params:
    return params_from({**TINY_PARAMS, "download": {**TINY_PARAMS["download"], "corpora": list(corpora)}}, "tiny")


def write_registry(folder: Path, texts: dict[str, str], digest: str = "sha256") -> None:
    """A corpus `web` of these files, and `mine`, the user's own."""
    files = {
        name: {
            "url": f"https://example.org/{name}",
            "bytes": len(text),
            digest: hashlib.new(digest, text.encode()).hexdigest(),
        }
        for name, text in texts.items()
    }
    part = {"name": "web", "split": "train", "format": "lines", "file": "train.{language}"}
    web = {"licence": "none", "citation": "none", "languages": ["en", "de", "fr"], "files": files, "parts": [part]}
    mine = {"local": {"train": {"en": "my/train.en", "de": "my/train.de"}}}
    (folder / REGISTRY).parent.mkdir(exist_ok=True)
    (folder / REGISTRY).write_text(HEADER + yaml.safe_dump({"web": web, "mine": mine}, sort_keys=False))


TEXTS = {"train.en": "one\n", "train.de": "eins\n", "train.fr": "un\n"}


@pytest.fixture
def web(tmp_path: Path) -> Web:
    folder = tmp_path / "mirror"
    folder.mkdir()
    made = Web(folder)
    for name, text in TEXTS.items():
        made.write(name, text)
    return made


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    write_registry(folder, TEXTS)
    return folder


def check(checkout: Path, mirror: str, *corpora: str, thorough: bool = False) -> list[Drift]:
    params = tiny_params(*(corpora or ("web",)))
    return SourceCheck(checkout, params, checkout / "work" / "sources.json", mirror, thorough).drifts()


def test_unchanged_sources_are_fetched_once_and_then_only_asked_about(checkout: Path, web: Web) -> None:
    with web.serve() as address:
        assert check(checkout, address) == []
        first = list(web.requests)
        assert check(checkout, address) == []
        assert web.requests[len(first) :] == ["HEAD /example.org/train.en", "HEAD /example.org/train.de"]
        web.requests.clear()
        assert check(checkout, address, thorough=True) == []
        assert {"GET /example.org/train.en", "GET /example.org/train.de"} <= set(web.requests)
    assert not any("train.fr" in request for request in first)
    assert not list((checkout / "work").glob("*/"))


@pytest.mark.parametrize("text", ["two\n", "longer than before\n"], ids=["same size", "other size"])
@pytest.mark.parametrize("served", [True, False], ids=["server", "folder"])
def test_a_changed_source_is_found_every_time_and_can_be_accepted(
    checkout: Path, web: Web, text: str, served: bool
) -> None:
    with web.serve() as address:
        mirror = address if served else str(web.folder)
        assert check(checkout, mirror) == []
        web.write("train.en", text)
        (found,) = check(checkout, mirror)
        assert check(checkout, mirror) == [found]
        digest = hashlib.sha256(text.encode()).hexdigest()
        assert (found.corpus, found.file, found.kind) == ("web", "train.en", "source")
        assert (found.sha256, found.bytes) == (digest, len(text))
        assert digest in found.problem
        assert hashlib.sha256(b"one\n").hexdigest() in found.problem
        accept(checkout, [found])
        assert check(checkout, mirror) == []
    assert (checkout / REGISTRY).read_text().startswith(HEADER)
    entry = load_corpora(checkout / REGISTRY)["web"].files["train.en"]
    assert (entry.sha256, entry.bytes) == (digest, len(text))


def test_where_only_md5_is_published(checkout: Path, web: Web) -> None:
    write_registry(checkout, TEXTS, "md5")
    assert check(checkout, str(web.folder)) == []
    web.write("train.de", "zwei\n")
    (found,) = check(checkout, str(web.folder))
    accept(checkout, [found])
    entry = load_corpora(checkout / REGISTRY)["web"].files["train.de"]
    assert (entry.md5, entry.sha256) == (None, hashlib.sha256(b"zwei\n").hexdigest())


def test_a_source_that_is_gone_is_an_error_not_a_change(checkout: Path, web: Web) -> None:
    (web.folder / "example.org" / "train.en").unlink()
    with web.serve() as address, pytest.raises(DownloadError, match="404"):
        check(checkout, address)


def dvc(folder: Path, *arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "dvc", *arguments], cwd=folder, check=True, capture_output=True)


def test_the_last_download_counts_too(checkout: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A manifest as dvc.lock's download stage leaves it in the cache, nothing in the workspace."""
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(checkout / "site-cache"))
    (checkout / "my").mkdir()
    for language in ("en", "de"):
        (checkout / "my" / f"train.{language}").write_text("text\n")
    assert [drift.kind for drift in check(checkout, str(web.folder), "mine")] == ["new file", "new file"]
    records = {f"web/{name}": text for name, text in TEXTS.items()}
    records |= {f"mine/train.{language}": "text\n" for language in ("en", "de")}
    written = [{"file": file, "sha256": hashlib.sha256(text.encode()).hexdigest()} for file, text in records.items()]
    write_json(checkout / "data" / "manifest.json", {"files": written})
    dvc(checkout, "init", "--no-scm", "--quiet")
    dvc(checkout, "add", "--quiet", "data/manifest.json")
    (checkout / "data" / "manifest.json").unlink()
    assert check(checkout, str(web.folder), "web", "mine") == []

    (checkout / "my" / "train.en").write_text("edited\n")
    write_registry(checkout, {**TEXTS, "train.de": "an edited registry\n"})
    kinds = {(drift.file, drift.kind) for drift in check(checkout, str(web.folder), "web", "mine")}
    assert kinds == {("my/train.en", "file"), ("train.de", "registry")}


def test_a_worktree_finds_the_users_own_files(checkout: Path, tmp_path: Path) -> None:
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    write_registry(worktree, TEXTS)
    params = tiny_params("mine")
    with pytest.raises(DataError, match=r"mine: my/train.en does not exist"):
        check(worktree, "", "mine")
    (checkout / "my").mkdir()
    for language in ("en", "de"):
        (checkout / "my" / f"train.{language}").write_text("the user's")
    (worktree / "my").mkdir()
    (worktree / "my" / "train.de").write_text("git's")
    link_local_files(checkout, worktree, params)
    assert [(worktree / "my" / f"train.{language}").read_text() for language in ("en", "de")] == [
        "the user's",
        "git's",
    ]
