"""Keeps pages of other origins and foreign names away from a server: those of `make serve`, and `transformer serve`.

Any page that a browser on this machine shows can send requests to 127.0.0.1, and a name of its own that it lets point
there (DNS rebinding) even makes the answers readable. Browsers say where a request comes from; this believes them.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

NAMES = ("127.0.0.1", "localhost", "[::1]")
FORBIDDEN, POLICY_VIOLATION = 403, 1008  # of HTTP, of WebSocket

log = logging.getLogger("uvicorn.error")


class Guard:
    """An ASGI application in front of another one: passes on only what its own pages and programs send."""

    def __init__(self, app: App, names: Sequence[str] = ()) -> None:
        """`names` are further ones that the server answers to, with or without its port, over TLS too.

        Behind a proxy the port and the protocol are those of the proxy.
        """
        self.app = app
        self.names = names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 403 to requests and WebSockets that come from elsewhere; hand all else to the application."""
        reason = refusal(scope, self.names) if scope["type"] in ("http", "websocket") else None
        if reason is None:
            await self.app(scope, receive, send)
            return
        log.warning("refused %s: %s", scope["path"][:100], reason)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION})
            return
        body = f"{reason}; this server answers its own pages and programs at http://{_own(scope)[0]}\n".encode()
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]
        await send({"type": "http.response.start", "status": FORBIDDEN, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def refusal(scope: Scope, names: Sequence[str] = ()) -> str | None:
    """Why a request is not one of our own, or None if it is."""
    hosts, origins = _values(scope, b"host"), _values(scope, b"origin")
    host = hosts[0] if len(hosts) == 1 else ""
    given = host in names or host.rpartition(":")[0] in names
    if not given and host not in _own(scope):
        return f"Host {hosts} is not a name of this server"
    allowed = [f"http://{host}", *([f"https://{host}"] if given else [])]
    if any(origin not in allowed for origin in origins):
        return f"Origin {origins} is another one"
    # Without an origin: images, scripts, frames and plain links of other pages. A link that a person follows is fine.
    site = _values(scope, b"sec-fetch-site")
    if set(site) <= {"same-origin", "none"} or _is_followed_link(scope):
        return None
    return f"Sec-Fetch-Site is {site}"


def _is_followed_link(scope: Scope) -> bool:
    kind = (_values(scope, b"sec-fetch-mode"), _values(scope, b"sec-fetch-dest"))
    return scope.get("method") == "GET" and kind == (["navigate"], ["document"])


def _own(scope: Scope) -> list[str]:
    """What its own pages and programs may call this server; the port is the one that it listens on."""
    port = scope["server"][1]
    return [f"{name}:{port}" for name in NAMES] + [name for name in NAMES if port == 80]  # browsers leave 80 out


def _values(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]
