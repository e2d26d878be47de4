"""Around the application: bodies are limited, requests counted, and browsers told what the page may not do."""

from starlette.exceptions import HTTPException

from transformer.serving.guard import App, Message, Receive, Scope, Send
from transformer.serving.metrics import Metrics
from transformer.serving.schema import LARGEST_BODY

PATHS = ("/", "/page.css", "/page.js", "/translate", "/healthz", "/metrics", "/openapi.json")
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]


class Edge:
    """An ASGI application around another one."""

    def __init__(self, app: App, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body cut off with 413 where it is too large."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope["path"] if scope["path"] in PATHS else "other"
        received = 0

        async def limited() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > LARGEST_BODY:
                raise HTTPException(413, f"the body is larger than {LARGEST_BODY} bytes: send fewer lines at a time")
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
                self.metrics.requests.labels(path, message["status"]).inc()
            await send(message)

        await self.app(scope, limited, counted)
