"""`/v1/models`, and `/v1/embeddings` for each embedding task that is declared: its name is the model."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from infra.openai_door import request_bodies
from infra.openai_door.door import Door, of_error
from infra.openai_door.response_bodies import Refused, refused
from schemas.catalogue import catalogue
from schemas.declared.task_kinds import TaskKind
from schemas.errors import MillraceError

router = APIRouter()
MOST_TEXTS = 256


@router.get("/v1/models")
async def models(request: Request) -> Any:
    door: Door = request.app.state.door
    door.check(request)
    return {"object": "list", "data": [_model(name) for name in (*door.chat_models(), *_embedding_tasks())]}


@router.get("/v1/models/{name}")
async def model(request: Request, name: str) -> Any:
    door: Door = request.app.state.door
    door.check(request)
    if name not in (*door.chat_models(), *_embedding_tasks()):
        raise Refused(404, f"there is no model {name!r:.80}", "model_not_found")
    return _model(name)


@router.post("/v1/embeddings")
async def embeddings(request: Request) -> Any:
    door: Door = request.app.state.door
    body = await door.body(request)
    try:
        texts = request_bodies.embedding_texts(body, MOST_TEXTS)
        task = str(body.get("model", ""))
        if task not in _embedding_tasks():
            known = ", ".join(_embedding_tasks()) or "none is declared"
            raise Refused(404, f"there is no embedding task {task!r:.80}; there is: {known}", "model_not_found")
        asking = (door.client.request(task, {"text": text}, deadline_ms=door.deadline_ms) for text in texts)
        results: Sequence[Mapping[str, Any]] = await asyncio.gather(*asking)
    except MillraceError as error:
        raise of_error(error) from error
    for result in results:
        if result["status"] != "ok":
            raise refused(result)
    coded = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": i, "embedding": _coded(result["embedding"]) if coded else list(result["embedding"])}
        for i, result in enumerate(results)
    ]
    return {"object": "list", "data": data, "model": task, "usage": {"prompt_tokens": 0, "total_tokens": 0}}


def _coded(vector: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(vector, "<f4").tobytes()).decode()


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "millrace"}


def _embedding_tasks() -> tuple[str, ...]:
    return tuple(task.name for task in catalogue().declared if task.kind is TaskKind.EMBEDDING)
