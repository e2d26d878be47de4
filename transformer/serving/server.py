"""The server process: a socket, uvicorn, and an end that finishes what is being translated."""

import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from transformer.errors import ParamsError
from transformer.serving.guard import App
from transformer.stopping import handle_stop_signals

LONGEST_END = 60  # seconds, for what is being translated when the server is asked to stop
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Raises:
        ParamsError: there is no such address here, or another process listens on it.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        server = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise ParamsError(f"--host {host}: {getattr(error, 'strerror', None) or 'no address'}") from None
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server.bind(address)
    except OSError as error:
        server.close()
        raise ParamsError(f"port {port} of {host}: {error.strerror}; choose another one with --port") from None
    server.listen(2048)
    return server


def address_of(server: socket.socket) -> str:
    """Where a browser finds it."""
    host, port = server.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn."""
        await super().startup(sockets)
        self._on_ready()


def run(app: App, server: socket.socket, on_ready: Callable[[], object]) -> None:
    """Serve until SIGTERM, SIGINT or SIGHUP; then accept no more, finish what was asked, and return."""
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, ws="none", http="h11",
        timeout_graceful_shutdown=LONGEST_END,
    )  # fmt: skip
    running = _Server(config, on_ready)

    def stop(_number: int, _frame: FrameType | None) -> None:
        running.should_exit = True

    former = handle_stop_signals(stop)  # uvicorn raises again the signal that ended it, which must not kill it then
    try:
        running.run(sockets=[server])
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
