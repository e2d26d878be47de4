"""Transfers against a real server on the loopback interface: cut, refused, corrupted, resumed."""

import hashlib
import random
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from loopback_server import Site, serve

from transformer.data.download.cache import SourceCache
from transformer.data.download.corpora import SourceFile
from transformer.data.download.transfer import MIRROR_VARIABLE, Patience, mirrored
from transformer.errors import DataError, DownloadError

CONTENT = random.Random(1).randbytes(700_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = "corpus.tgz"


@pytest.fixture(autouse=True)
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy between the tests and the loopback interface."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def site() -> Iterator[Site]:
    with serve({f"/{NAME}": CONTENT}) as running:
        yield running


class Fetcher:
    """A cache in a temporary folder that notes the waits instead of waiting."""

    def __init__(self, folder: Path, retries: int = 3) -> None:
        self.folder = folder
        self.waits: list[float] = []
        self.cache = SourceCache(folder, Patience(retries, 5.0, self.waits.append), mirror=None)

    def __call__(self, site: Site, **expected: object) -> Path:
        known = {"bytes": len(CONTENT), "sha256": DIGEST} | expected
        source = SourceFile.model_validate({"url": f"{site.url}/{NAME}"} | known)
        return self.cache.fetch(NAME, source)

    def left(self) -> list[str]:
        return [path.name for path in self.folder.iterdir() if path.suffix != ".lock"]


@pytest.fixture
def fetch(tmp_path: Path) -> Fetcher:
    return Fetcher(tmp_path)


def test_a_whole_file(site: Site, fetch: Fetcher) -> None:
    path = fetch(site)
    assert path.read_bytes() == CONTENT
    assert fetch.left() == [path.name]
    assert site.requests == [(f"/{NAME}", None)]


def test_a_cut_transfer_continues_where_it_stopped(site: Site, fetch: Fetcher) -> None:
    site.cut_after = [300_000, 100_000]
    assert fetch(site).read_bytes() == CONTENT
    assert [asked for _, asked in site.requests] == [None, "bytes=300000-", "bytes=400000-"]


def test_a_later_run_continues_the_part_file_of_an_earlier_one(site: Site, tmp_path: Path) -> None:
    site.cut_after = [300_000]
    with pytest.raises(DownloadError):
        Fetcher(tmp_path, retries=0)(site)
    assert Fetcher(tmp_path, retries=0)(site).read_bytes() == CONTENT
    assert site.requests[-1][1] == "bytes=300000-"


def test_a_server_that_ignores_ranges_starts_the_file_anew(site: Site, fetch: Fetcher) -> None:
    site.cut_after, site.ignores_range = [300_000], True
    assert fetch(site).read_bytes() == CONTENT
    assert [asked for _, asked in site.requests] == [None, "bytes=300000-"]


def test_a_server_that_resumes_at_the_wrong_byte_starts_the_file_anew(site: Site, fetch: Fetcher) -> None:
    site.cut_after, site.wrong_range = [300_000], True
    assert fetch(site).read_bytes() == CONTENT
    assert [asked for _, asked in site.requests] == [None, "bytes=300000-", None]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_is_noticed_where_no_length_is_announced(site: Site, fetch: Fetcher, chunked: bool) -> None:
    site.announces_length, site.chunked, site.cut_after = False, chunked, [300_000]
    assert fetch(site).read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_a_part_file_that_was_complete_needs_no_request(site: Site, fetch: Fetcher) -> None:
    path = fetch(site)
    path.rename(path.with_name(f"{path.name}.part"))
    assert fetch(site).read_bytes() == CONTENT
    assert len(site.requests) == 1


def test_a_complete_part_file_of_unpublished_size_is_recognised(site: Site, fetch: Fetcher) -> None:
    known = {"bytes": None, "sha256": None, "md5": hashlib.md5(CONTENT).hexdigest()}
    path = fetch(site, **known)
    path.rename(path.with_name(f"{path.name}.part"))
    assert fetch(site, **known).read_bytes() == CONTENT
    assert site.requests[-1][1] == "bytes=700000-"


def test_an_oversized_part_file_is_dropped(site: Site, fetch: Fetcher) -> None:
    (fetch.folder / f"{DIGEST[:16]}-{NAME}.part").write_bytes(CONTENT + b"x")
    assert fetch(site).read_bytes() == CONTENT
    assert site.requests == [(f"/{NAME}", None)]


def test_a_file_labelled_as_compressed_text_keeps_its_bytes(site: Site, fetch: Fetcher) -> None:
    site.encoding = "x-gzip"
    assert fetch(site).read_bytes() == CONTENT


def test_corrupted_bytes_are_named_by_both_hashes_and_not_kept(site: Site, fetch: Fetcher) -> None:
    wrong = b"x" + CONTENT[1:]
    site.files[f"/{NAME}"] = wrong
    with pytest.raises(DataError) as caught:
        fetch(site)
    assert DIGEST in str(caught.value)
    assert hashlib.sha256(wrong).hexdigest() in str(caught.value)
    assert "\n" not in str(caught.value)
    assert fetch.left() == []


@pytest.mark.parametrize("length", [len(CONTENT) - 1, len(CONTENT) + 1])
@pytest.mark.parametrize("announced", [True, False])
def test_a_wrong_size_is_refused_and_not_kept(site: Site, fetch: Fetcher, length: int, announced: bool) -> None:
    site.announces_length = announced
    site.files[f"/{NAME}"] = (CONTENT + b"x")[:length]
    with pytest.raises(DataError, match=f"has {length} bytes, not 700000 as data.corpora.yaml says"):
        fetch(site)
    assert fetch.left() == []


def test_a_published_md5_alone_is_verified(site: Site, fetch: Fetcher) -> None:
    assert fetch(site, sha256=None, bytes=None, md5=hashlib.md5(CONTENT).hexdigest()).read_bytes() == CONTENT
    with pytest.raises(DataError, match="0" * 32):
        fetch(site, sha256=None, bytes=None, md5="0" * 32)


def test_busy_servers_are_asked_again_with_growing_waits(site: Site, fetch: Fetcher) -> None:
    site.statuses = [503, 429, 500]
    assert fetch(site).read_bytes() == CONTENT
    assert fetch.waits == [1.0, 2.0, 4.0]


def test_the_retries_end(site: Site, fetch: Fetcher) -> None:
    site.statuses = [503] * 9
    with pytest.raises(DownloadError, match="503"):
        fetch(site)
    assert len(site.requests) == 4


def test_cuts_that_bring_something_each_time_do_not_use_up_the_retries(site: Site, tmp_path: Path) -> None:
    site.cut_after = [100_000] * 6
    fetch = Fetcher(tmp_path, retries=1)
    assert fetch(site).read_bytes() == CONTENT
    assert fetch.waits == [1.0] * 6


def test_a_missing_file_is_not_asked_for_again(site: Site, fetch: Fetcher) -> None:
    site.files.clear()
    with pytest.raises(DownloadError, match="404"):
        fetch(site)
    assert len(site.requests) == 1
    assert fetch.waits == []


def test_offline_ends_in_one_line_that_names_the_mirror(fetch: Fetcher) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DownloadError) as caught:
        fetch(Site({}, url=url))
    told = str(caught.value)
    assert "connection refused" in told
    assert f"{MIRROR_VARIABLE} to a folder or URL that holds {url.removeprefix('http://')}/{NAME}" in told
    assert "\n" not in told
    assert len(fetch.waits) == 3


def test_a_silent_server_counts_as_cut(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        cache = SourceCache(tmp_path, Patience(0, 0.1), mirror=None)
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/{NAME}"
        with pytest.raises(DownloadError, match="no answer in time"):
            cache.fetch(NAME, SourceFile(url=url, sha256=DIGEST))


def test_a_verified_file_is_not_transferred_again_unless_it_changed(site: Site, fetch: Fetcher) -> None:
    path = fetch(site)
    fetch(site)
    assert len(site.requests) == 1
    path.write_bytes(b"x" + CONTENT[1:])
    assert fetch(site).read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_runs_that_share_the_folder_take_turns(site: Site, fetch: Fetcher) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fetch(site), range(4)))
    assert {path.read_bytes() for path in found} == {CONTENT}
    assert len(site.requests) == 1


def test_mirror_addresses() -> None:
    url = "https://host.org/a/b.gz"
    assert mirrored(url, None) == url
    assert mirrored(url, "http://inside/mirror/") == "http://inside/mirror/host.org/a/b.gz"
    assert mirrored(url, "/srv/mirror") == "/srv/mirror/host.org/a/b.gz"


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_a_mirror_folder(tmp_path: Path, prefix: str) -> None:
    mirror = tmp_path / "a mirror"
    (mirror / "host.org").mkdir(parents=True)
    (mirror / "host.org" / NAME).write_bytes(CONTENT)
    cache = SourceCache(tmp_path / "cache", Patience(0, 1.0), f"{prefix}{mirror}")
    source = SourceFile(url=f"https://host.org/{NAME}", bytes=len(CONTENT), sha256=DIGEST)
    assert cache.fetch(NAME, source).read_bytes() == CONTENT
    assert (mirror / "host.org" / NAME).exists()
    with pytest.raises(DownloadError, match="is missing in the mirror"):
        cache.fetch("other", SourceFile(url="https://host.org/other", sha256="0" * 64))


def test_a_mirror_url(site: Site, tmp_path: Path) -> None:
    site.files["/mirror/host.org/deep/corpus.tgz"] = CONTENT
    cache = SourceCache(tmp_path, Patience(0, 5.0), f"{site.url}/mirror")
    source = SourceFile(url=f"https://host.org/deep/{NAME}", sha256=DIGEST)
    assert cache.fetch(NAME, source).read_bytes() == CONTENT
