"""A real HTTP server on the loopback interface that misbehaves as real ones do."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """What a server offers, how it fails, and what it was asked."""

    files: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)  # answered first, one a request
    cut_after: list[int] = field(default_factory=list)  # bytes of the body sent before the connection is closed
    ignores_range: bool = False
    wrong_range: bool = False
    announces_length: bool = True
    chunked: bool = False
    encoding: str = ""
    redirects: dict[str, str] = field(default_factory=dict)  # path -> where to go instead
    pause: float = 0.0  # seconds before each tenth of a body
    requests: list[tuple[str, str | None]] = field(default_factory=list)  # path, Range header
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Site

    def do_GET(self) -> None:
        site, asked = self.site, self.headers.get("Range")
        site.requests.append((self.path, asked))
        if self.path in site.redirects:
            self._answer(302, b"", {"Location": site.redirects[self.path]})
            return
        status = site.statuses.pop(0) if site.statuses else (200 if self.path in site.files else 404)
        if status != 200:
            self._answer(status, b"")
            return
        content = site.files[self.path]
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and not site.ignores_range else 0
        if start and start >= len(content):
            self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
            return
        shown = start + 1 if site.wrong_range else start
        extra = {"Content-Range": f"bytes {shown}-{len(content) - 1}/{len(content)}"} if start else {}
        self._answer(206 if start else 200, content[start:], extra)

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        site = self.site
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        if site.encoding:
            self.send_header("Content-Encoding", site.encoding)
        if site.chunked and status < 400:
            self.send_header("Transfer-Encoding", "chunked")
        elif site.announces_length or status >= 400:
            self.send_header("Content-Length", str(len(body)))
        cut = site.cut_after.pop(0) if site.cut_after and status < 400 else None
        if cut is not None or not site.announces_length:
            self.close_connection = True
        self.end_headers()
        sent = body[:cut]
        if site.chunked and status < 400:
            sent = b"%x\r\n%b\r\n" % (len(sent), sent) + (b"" if cut is not None else b"0\r\n\r\n")
        if not site.pause:
            self.wfile.write(sent)
        for begin in range(0, len(sent) if site.pause else 0, -(-len(sent) // 10) or 1):
            time.sleep(site.pause)
            self.wfile.write(sent[begin : begin + -(-len(sent) // 10)])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def serve(files: dict[str, bytes]) -> Iterator[Site]:
    """Serve `files` (path -> content); the site's switches may be set while it runs."""
    site = Site(files)
    handler = type("Handler", (_Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    site.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
