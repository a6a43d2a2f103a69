"""The monitor's server: everybody on this machine can read; actions need a token. Every answer except pages and streams is
JSON; `/api/openapi.json` describes them. An error is `{"code", "message"}` with a code of `schemas.errors`."""

from __future__ import annotations

import json

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.types import ASGIApp, Lifespan, Message, Receive, Scope, Send

from infra import browser_guard, redact
from infra.monitor import safety
from infra.monitor.routes import (
    audit_routes,
    connector_routes,
    feature_routes,
    learning_routes,
    letter_routes,
    model_routes,
    overview_routes,
    record_routes,
    schema_routes,
    topic_routes,
    user_routes,
)
from infra.monitor.routes.shared_parts import Shown
from infra.monitor.services import Monitor
from infra.monitor.turns import TooMany
from schemas.errors import (
    BadSettings,
    BrokerUnavailable,
    InvalidRequest,
    MillraceError,
    RecordTooLarge,
    RetryLater,
    TransactionAborted,
)

ROUTES = (
    overview_routes,
    topic_routes,
    record_routes,
    letter_routes,
    model_routes,
    learning_routes,
    feature_routes,
    user_routes,
    schema_routes,
    connector_routes,
    audit_routes,
)
STATUS: tuple[tuple[type[MillraceError], int], ...] = (
    (safety.NotAllowed, 403),
    (RecordTooLarge, 413),
    (InvalidRequest, 400),
    (BadSettings, 400),
    (TooMany, 503),
    (BrokerUnavailable, 503),
    (RetryLater, 503),
    (TransactionAborted, 503),
)
NO_PAGES = """<!doctype html><meta charset="utf-8"><title>Millrace</title><h1>The pages were not built</h1>
<p>The interface below <a href="/api/openapi.json">/api</a> and the command line work all the same.</p><pre>{why}</pre>"""


class Error(BaseModel):
    code: str
    message: str


class Guard:
    """Wraps every request: refuses other host names, requests from other sites and bodies that are too large, and adds the
    headers to every answer."""

    def __init__(self, app: ASGIApp, bound: str) -> None:
        self._app, self._bound = app, bound

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        said = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        why = browser_guard.refused(
            scope["method"],
            said.get("host", ""),
            said.get("origin"),
            said.get("sec-fetch-site"),
            said.get("content-type"),
            self._bound,
            scope["path"],
        )
        length = said.get("content-length", "0")
        if why is None and (not (length.isascii() and length.isdigit()) or int(length) > safety.MOST_BODY_BYTES):
            why = f"a body may have {safety.MOST_BODY_BYTES} bytes, and must say how many it has"
        if why is None and "chunked" in said.get("transfer-encoding", ""):
            why = "a body must say how many bytes it has"
        headers = [(name.lower().encode(), value.encode()) for name, value in safety.HEADERS.items()]

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        if why is not None:
            await JSONResponse({"code": "not-allowed", "message": why}, 403)(scope, receive, with_headers)
            return
        await self._app(scope, receive, with_headers)


def interface(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """All routes below `/api`, as the OpenAPI document describes them; they work after `create` has given them a monitor."""
    app = FastAPI(
        title="Millrace monitor",
        version="1",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        default_response_class=Shown,
        responses={code: {"model": Error} for code in (400, 403, 404, 409, 413, 422, 503)},
    )
    for module in ROUTES:
        app.include_router(module.router)
    return app


def create(monitor: Monitor) -> FastAPI:
    app = interface(monitor.running)
    app.state.monitor = monitor
    app.add_middleware(Guard, bound=monitor.bound)
    _errors(app, monitor)
    _pages(app, monitor)
    return app


def _errors(app: FastAPI, monitor: Monitor) -> None:
    @app.exception_handler(MillraceError)
    async def of_ours(request: Request, error: MillraceError) -> JSONResponse:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 409)
        if status == 403 and request.method == "POST":
            _audited(monitor, request, str(error))
        return Shown({"code": error.code, "message": redact.text(str(error))}, status)

    @app.exception_handler(RequestValidationError)
    async def of_the_request(request: Request, error: RequestValidationError) -> JSONResponse:
        words = "; ".join(f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:8])
        return Shown({"code": "invalid", "message": redact.text(words)}, 422)


def _audited(monitor: Monitor, request: Request, why: str) -> None:
    """Write an audit line about a refused attempt, with the name of the caller if the token is valid."""
    try:
        actor = safety.actor_of(request.headers.get("authorization"), monitor.tokens)
    except safety.NotAllowed:
        actor = None
    *_, subject, action = request.url.path.strip("/").split("/")
    monitor.actions.refused(actor, f"refused {'produce' if action == 'records' else action}", subject, why)


# --- pages ------------------------------------------------------------------------------------------------------------


def _pages(app: FastAPI, monitor: Monitor) -> None:
    @app.get("/{path:path}", include_in_schema=False)
    def page(path: str) -> Response:
        """Files of the build, kept for a year where their names hold their digest; any other path is the application's own."""
        if path.startswith("api/"):
            return JSONResponse({"code": "unknown", "message": f"there is no /{path}"}, 404)
        if monitor.pages is None:
            return HTMLResponse(NO_PAGES.format(why=json.dumps(monitor.no_pages)), 503)
        file = (monitor.pages / path).resolve()
        if path and file.is_relative_to(monitor.pages.resolve()) and file.is_file():
            hashed = path.startswith("assets/")
            kept = "public, max-age=31536000, immutable" if hashed else "no-cache"
            return FileResponse(file, headers={"Cache-Control": kept})
        return FileResponse(monitor.pages / "index.html", headers={"Cache-Control": "no-cache"})
