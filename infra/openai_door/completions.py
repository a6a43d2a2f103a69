"""`/v1/chat/completions` and `/v1/completions`, whole and streamed; a stream that was cut is picked up again by its id.

Each event carries a position. `GET …/{id}/events` with `after` or the header Last-Event-ID goes on there, on any door, for as long as
the tokens are kept. A caller that leaves does not end its answer; `POST …/{id}/cancel` does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, StreamingResponse

from infra.openai_door import request_bodies
from infra.openai_door.door import Door, of_error
from infra.openai_door.request_bodies import Body
from infra.openai_door.response_bodies import PREFIX, AnswerForm, Form, Refused, event, refused
from schemas.errors import InvalidRequest, MillraceError
from schemas.vocabulary import FinishReason
from streams.chat_client import Asking
from streams.headers import whole
from streams.ids import time_ms_of
from streams.token_stream import StreamedToken

router = APIRouter()
DONE = event("[DONE]")
PARSERS: Mapping[Form, Callable[[Mapping[str, Any]], Body]] = {
    "chat": request_bodies.chat,
    "completion": request_bodies.completion,
}
STREAM_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


@router.post("/v1/chat/completions")
async def chat(request: Request) -> Any:
    return await _answer(request, "chat")


@router.post("/v1/completions")
async def completions(request: Request) -> Any:
    return await _answer(request, "completion")


@router.get("/v1/chat/completions/{answer_id}/events")
async def chat_events(request: Request, answer_id: str, after: int = 0) -> Any:
    return _resumed(request, "chat", answer_id, after)


@router.get("/v1/completions/{answer_id}/events")
async def completion_events(request: Request, answer_id: str, after: int = 0) -> Any:
    return _resumed(request, "completion", answer_id, after)


@router.post("/v1/chat/completions/{answer_id}/cancel")
@router.post("/v1/completions/{answer_id}/cancel")
async def cancel(request: Request, answer_id: str) -> Any:
    door: Door = request.app.state.door
    door.check(request)
    request_id = _request_id(answer_id)
    await door.chat.cancel(request_id, "the caller asked the door to")
    return {"id": answer_id, "cancelled": True}


async def _answer(request: Request, form: Form) -> Any:
    door: Door = request.app.state.door
    try:
        body = PARSERS[form](await door.body(request))
        _known(door, body)
        asking = door.chat.ask(body.fields, deadline_ms=door.deadline_ms)
        if body.stream:
            return await _streamed(door, asking, form, body)
        return await _whole(door, asking, form, body)
    except MillraceError as error:
        raise of_error(error) from error


def _known(door: Door, body: Body) -> None:
    """Raises Refused for another model than those that answer. While no worker has reported any name is taken: the request waits."""
    names = door.chat_models()
    if body.model and names and body.model not in names:
        raise Refused(404, f"there is no model {body.model!r:.80}; there is {', '.join(names)}", "model_not_found")


async def _whole(door: Door, asking: Asking, form: Form, body: Body) -> Any:
    tokens = [token async for token in asking] if body.logprobs else []
    result = await asking.result
    if result["status"] not in ("ok", "expired") or result["text"] is None:
        raise refused(result)
    answer_form = _form(door, form, asking.request_id, body.logprobs)
    return JSONResponse(answer_form.answer(result, tokens))


async def _streamed(door: Door, asking: Asking, form: Form, body: Body) -> Any:
    """The first token decides: a request that is refused before it gets an error, not a stream."""
    tokens = asking.tokens()
    first = await anext(tokens, None)
    if first is None:
        result = await asking.result
        if result["status"] not in ("ok", "expired") or result["text"] is None:
            raise refused(result)
    answer_form = _form(door, form, asking.request_id, body.logprobs)
    events = _events(door, answer_form, _chained(first, tokens), body.with_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


async def _chained(first: StreamedToken | None, rest: AsyncIterator[StreamedToken]) -> AsyncIterator[StreamedToken]:
    if first is not None:
        yield first
        async for token in rest:
            yield token


async def _events(
    door: Door, answer_form: AnswerForm, tokens: AsyncIterator[StreamedToken], with_usage: bool
) -> AsyncIterator[bytes]:
    stream = door.chat.streams.stream(answer_form.request_id)
    try:
        async for token in tokens:
            if token.text or token.sequence == 0 or answer_form.logprobs:
                yield event(answer_form.chunk(token, first=token.sequence == 0), token.sequence + 1)
    except MillraceError as error:  # the status of the response is sent already
        yield event(of_error(error).body())
        return
    end = stream.state.end
    if end is None:
        yield event(Refused(504, "the answer ended, and its last tokens did not come", "tokens-missing").body())
        return
    if end["error_message"] and end["finish_reason"] != FinishReason.CONTENT_FILTER:
        yield event(Refused(500, end["error_message"], end["finish_reason"]).body())
        return
    yield event(answer_form.last(stream.state.reason), stream.state.sequence)
    if with_usage:
        yield event(answer_form.usage(end), stream.state.sequence)
    yield DONE


def _resumed(request: Request, form: Form, answer_id: str, after: int) -> StreamingResponse:
    door: Door = request.app.state.door
    door.check(request)
    request_id = _request_id(answer_id)
    last = request.headers.get("last-event-id")
    position = after if last is None else whole(last.encode(), 0, 2**31)
    if position is None or position < 0:
        raise Refused(400, "the position must be a whole number from 0", "invalid")
    if not door.chat.streams.stream(request_id).known:
        raise Refused(404, f"no tokens of {answer_id} are kept here", "not-found")
    tokens = door.chat.streams.tokens(request_id, position, silence_s=door.deadline_ms / 1000)
    events = _events(door, _form(door, form, request_id), tokens, with_usage=True)
    return StreamingResponse(events, media_type="text/event-stream", headers=STREAM_HEADERS)


def _form(door: Door, form: Form, request_id: str, logprobs: bool = False) -> AnswerForm:
    begun = door.chat.streams.stream(request_id).state.begun
    created_s = (time_ms_of(request_id) or door.clock.now_ms()) // 1000
    return AnswerForm(form, request_id, created_s, begun.get("model", ""), logprobs)


def _request_id(answer_id: str) -> str:
    for prefix in PREFIX.values():
        answer_id = answer_id.removeprefix(prefix)
    if not 0 < len(answer_id) <= 128:
        raise of_error(InvalidRequest("the id must have from 1 to 128 characters"))
    return answer_id
