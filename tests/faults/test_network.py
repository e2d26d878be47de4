"""A network that fails in each of its ways: retried where that helps, one line where not, never a wrong byte."""

import socket
import sys
from collections.abc import Callable, Iterator

import pytest
import yaml
from faulty_checkout import Checkout
from loopback_server import Site, serve
from published_corpus import HOST, published_files

pytestmark = pytest.mark.slow
FILES = {f"/{HOST}/{name}": content for name, content in published_files().items()}
DOWNLOAD = [sys.executable, "-m", "flows.stages.download"]
ARCHIVE = f"/{HOST}/train.tgz"


@pytest.fixture
def site() -> Iterator[Site]:
    with serve(dict(FILES)) as running:
        yield running


@pytest.fixture
def behind(checkout: Checkout, site: Site) -> Checkout:
    """The checkout with one retry a transfer, nothing downloaded yet, and the site as its mirror."""
    params = yaml.safe_load((checkout.folder / "params.yaml").read_text())
    params["download"] |= {"retries": 1, "timeout_seconds": 1.0}
    (checkout.folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    checkout.environment["TRANSFORMER_MIRROR"] = site.url
    return checkout


def cut_once(site: Site) -> None:
    site.cut_after = [2000, 10]


def busy_once(site: Site) -> None:
    site.statuses = [503]


def slow(site: Site) -> None:
    site.pause = 0.15  # shorter than the time-out each, longer than it together


def moved(site: Site) -> None:
    site.files["/moved"] = site.files.pop(ARCHIVE)
    site.redirects = {ARCHIVE: f"{site.url}/moved"}


@pytest.mark.parametrize("fault", [cut_once, busy_once, slow, moved])
def test_what_another_attempt_cures_is_cured(
    promised, behind: Checkout, site: Site, fault: Callable[[Site], None]
) -> None:
    promise = promised(
        "A network that is bad for a while costs no second start",
        "a server on loopback that cuts twice, answers 503, is slower in all than the time-out, redirects",
    )
    expected = behind.made("download")
    behind.forget("download")
    fault(site)
    ended = behind.ended(DOWNLOAD)
    assert ended.status == 0, ended.printed
    assert behind.made("download") == expected
    promise.held()


def cut_always(site: Site) -> None:
    site.cut_after = [0] * 99


def busy_always(site: Site) -> None:
    site.statuses = [500] * 99


def gone(site: Site) -> None:
    del site.files[ARCHIVE]


def other_bytes(site: Site) -> None:
    site.files[ARCHIVE] = site.files[ARCHIVE][:-1] + b"x"


def other_size(site: Site) -> None:
    site.files[ARCHIVE] = b"<html>Please log in</html>"


def redirect_loop(site: Site) -> None:
    site.redirects = {ARCHIVE: f"{site.url}/b", "/b": f"{site.url}{ARCHIVE}"}


def redirected_to_a_file(site: Site) -> None:
    site.redirects = {ARCHIVE: "file:///etc/passwd"}


def silent(site: Site) -> None:
    site.pause = 30.0


FATAL = {
    cut_always: "the connection was cut",
    busy_always: "500",
    gone: "404",
    other_bytes: "sha256",
    other_size: "bytes, not",
    redirect_loop: "redirects",
    redirected_to_a_file: "could not be fetched",
    silent: "no answer in time",
}


@pytest.mark.parametrize("fault", FATAL)
def test_what_stays_bad_ends_in_one_line_and_keeps_no_wrong_byte(
    promised, behind: Checkout, site: Site, fault: Callable[[Site], None]
) -> None:
    promise = promised(
        "A network that stays bad ends in one line that names the address, and nothing wrong is kept",
        "a server on loopback that always cuts, answers 500, 404, wrong bytes, a page of another size, redirects in "
        "a circle or to file:///, is silent; put right, the next start makes the same bytes",
    )
    expected = behind.made("download")
    behind.forget("download")
    fault(site)
    line = behind.ended(DOWNLOAD).in_one_line()
    assert FATAL[fault] in line, line
    assert "train.tgz" in line
    assert not list((behind.folder / "work" / "downloads").glob("*.tgz"))
    site.__init__(dict(FILES), url=site.url)  # type: ignore[misc]
    ended = behind.ended(DOWNLOAD)
    assert ended.status == 0, ended.printed
    assert behind.made("download") == expected
    promise.held()


def test_nobody_there_and_no_such_name(promised, behind: Checkout) -> None:
    promise = promised("Without a network the download ends in one line", "no DNS for the host; connection refused")
    behind.forget("download")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    for mirror, words in ((address, "connection refused"), ("", "the host name cannot be resolved")):
        behind.environment["TRANSFORMER_MIRROR"] = mirror
        line = behind.ended(DOWNLOAD).in_one_line()
        assert words in line, line
        promise.held()
