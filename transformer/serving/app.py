"""The HTTP interface: `POST /translate`, `/healthz`, `/metrics`, `/openapi.json` and the page."""

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from transformer.data.cleaning import resolve_entities
from transformer.errors import ParamsError, UserError
from transformer.section import shown
from transformer.serving.batching import Batcher, BusyError, Wish
from transformer.serving.edge import Edge
from transformer.serving.guard import App, Guard
from transformer.serving.metrics import Metrics
from transformer.serving.model import WatchedModel
from transformer.serving.schema import (
    LONGEST_LINE,
    MOST_DETAILED,
    MOST_LINES,
    Answer,
    Asked,
    Problem,
    written,
)

PAGE = Path(__file__).parent / "page"
NO_DETAILS = (
    "details: the engine ctranslate2 tells no tokens and no attention: ask without them, or have the server started "
    "with --engine torch"
)
GONE = 499  # what nginx calls a request whose client has left; nobody reads it
REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "the body is no JSON"},
    413: {"model": Problem, "description": "the body is too large"},
    422: {"model": Problem, "description": "a value is not allowed"},
    429: {"model": Problem, "description": "too many lines wait already"},
}
# With its content spelt out: FastAPI would document the type of the route's own answer.
UNAUTHORIZED: dict[int | str, dict[str, Any]] = {
    401: {
        "content": {"application/json": {"schema": Problem.model_json_schema()}},
        "description": "the key is missing or wrong",
    }
}

log = logging.getLogger(__name__)


def served(model: WatchedModel, metrics: Metrics, key: str | None = None, names: Sequence[str] = ()) -> App:
    """The whole application, guarded; it translates while its lifespan lasts.

    With `key`, translations and metrics are for those who show it. `names`: see `Guard`.
    """
    batcher = Batcher(lambda: model.current, metrics)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        batcher.start()
        model.start()
        yield
        model.stop()
        await asyncio.to_thread(batcher.stop)

    app = FastAPI(title="Transformer", version="1", docs_url=None, redoc_url=None, lifespan=lifespan)
    asked = [Depends(_shows(key))] if key else []
    unauthorized = UNAUTHORIZED if key else {}

    @app.post("/translate", responses=REFUSALS | unauthorized, dependencies=asked, response_model_exclude_none=True)
    async def translate(wanted: Asked, request: Request) -> Answer:
        """Translate lines, in order. HTML entities are resolved; what is longer than the model reads is split."""
        began = time.perf_counter()
        answer = await _translated(batcher, wanted, request)
        metrics.lines.inc(len(wanted.lines))
        metrics.seconds.observe(time.perf_counter() - began)
        return answer

    @app.get("/healthz")
    async def healthz() -> dict[str, Any]:
        """Whether it translates, with which model, and why not with a newer one."""
        if not batcher.alive:
            raise HTTPException(503, "the translator has ended: start the server again")
        return _health(model)

    @app.get("/metrics", responses=unauthorized, response_class=PlainTextResponse, dependencies=asked)
    async def told() -> Response:
        """For Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    _add_page(app)
    app.exception_handler(RequestValidationError)(_in_one_line)
    app.exception_handler(UserError)(_of_the_model)
    return Edge(Guard(app, names), metrics)


def _shows(key: str) -> Any:
    bearer = HTTPBearer(auto_error=False)

    async def check(shown: HTTPAuthorizationCredentials | None = Depends(bearer)) -> None:  # noqa: B008
        given = shown.credentials.encode() if shown else b""
        if not secrets.compare_digest(given, key.encode()):
            problem = "the key is wrong" if given else "a key is needed: Authorization: Bearer KEY"
            raise HTTPException(401, problem, {"WWW-Authenticate": "Bearer"})

    return check


async def _translated(batcher: Batcher, wanted: Asked, request: Request) -> Answer:
    if wanted.details and len(wanted.lines) * wanted.nbest > MOST_DETAILED:
        raise HTTPException(
            422, f"details are for at most {MOST_DETAILED} translations, lines times nbest, at a time"
        )
    lines = [resolve_entities(line) for line in wanted.lines]
    try:
        future = asyncio.wrap_future(batcher.submit(lines, Wish(wanted.nbest, wanted.details)))
    except BusyError:
        raise HTTPException(429, "too many lines wait already: try again in a moment", {"Retry-After": "1"}) from None
    gone = asyncio.ensure_future(_gone(request))
    either: list[asyncio.Future[Any]] = [future, gone]
    await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
    gone.cancel()
    if not future.done():
        future.cancel()  # what has not begun is left out
        raise HTTPException(GONE, "the client has left")
    try:
        found = future.result()
    except ParamsError:
        if not wanted.details:
            raise
        raise HTTPException(422, NO_DETAILS) from None
    each = [[written(one) for one in translations] for translations in found.translations]
    return Answer(model=found.model.name, translations=[one[0].text for one in each], nbest=each)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _health(model: WatchedModel) -> dict[str, Any]:
    current = model.current
    return {
        "status": "ok",
        "model": current.name,
        "source": current.languages.source,
        "target": current.languages.target,
        "engine": current.engine_name,
        "reason": current.reason,
        "beam": current.beam,
        "limits": {
            "lines": MOST_LINES,
            "characters": LONGEST_LINE,
            "details": MOST_DETAILED if current.gives_details else 0,
        },
        "problem": model.problem,
    }


def _add_page(app: FastAPI) -> None:
    for path, name, kind in (
        ("/", "page.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        app.add_route(path, partial(_file, PAGE / name, kind), include_in_schema=False)


async def _file(path: Path, kind: str, _request: Request) -> Response:
    return FileResponse(path, media_type=kind)


async def _in_one_line(_request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    if first["type"] == "json_invalid":
        place = f"character {first['loc'][-1] + 1}: {first['ctx']['error']}"
        return JSONResponse({"detail": f"the body is no JSON: {place}"}, 400)
    where = ".".join(str(step) for step in first["loc"][1:])
    if not where:
        told = 'the body must be a JSON object, sent as application/json: {"lines": ["…"]}'
    elif first["type"] == "missing":
        told = f"{where} is missing"
    elif first["type"] == "extra_forbidden":
        told = f"{where[:80]!a} is not known; there are {', '.join(Asked.model_fields)}"
    else:
        value = "" if first["type"] in ("too_long", "too_short", "string_too_long") else f" = {shown(first['input'])}"
        told = f"{where}{value}: {first['msg'][0].lower()}{first['msg'][1:]}"
    return JSONResponse({"detail": told}, 422)


async def _of_the_model(_request: Request, error: Exception) -> JSONResponse:
    log.warning("%s", error)
    return JSONResponse({"detail": str(error)}, 500)
