"""The application: routes, errors in OpenAI's form, and the connection to the topics while it runs."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from infra.openai_door import completions, models
from infra.openai_door.door import Door, of_error
from infra.openai_door.response_bodies import Refused
from infra.openai_door.settings import DoorSettings
from infra.running import addresses
from infra.settings import StackSettings
from schemas.errors import MillraceError
from schemas.topics import WORKER_STATUS
from streams.chat_client import KEPT_S, connect_chat
from streams.clock import SystemClock
from streams.kafka.broadcast import KafkaBroadcast
from streams.process.settings import load
from streams.readable import Followed, Readable


@asynccontextmanager
async def connected(app: FastAPI) -> AsyncIterator[None]:
    settings, own, clock = load(StackSettings, os.environ), load(DoorSettings, os.environ), SystemClock()
    address, registry = addresses(settings)
    statuses = Followed(KafkaBroadcast(address, WORKER_STATUS.name, clock, "end"), Readable(WORKER_STATUS, registry, dict))
    try:
        async with connect_chat(address.bootstrap, registry.url, "openai door", since_s=KEPT_S) as chat:
            app.state.door = Door(chat, chat.client, statuses, clock, own.door_token, own.door_deadline_ms)
            yield
    finally:
        statuses.close()


def create(lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] = connected) -> FastAPI:
    """lifespan: sets `app.state.door`."""
    app = FastAPI(title="Millrace", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.include_router(completions.router)
    app.include_router(models.router)

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.exception_handler(Refused)
    async def refusal(request: Request, error: Refused) -> JSONResponse:
        later = {"Retry-After": str(-(-error.retry_after_ms // 1000))} if error.retry_after_ms else {}
        return JSONResponse(error.body(), error.status, later)

    @app.exception_handler(MillraceError)
    async def unavailable(request: Request, error: MillraceError) -> JSONResponse:
        return await refusal(request, of_error(error))

    return app
