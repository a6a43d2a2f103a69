"""Records of a topic: pages of them, one complete record, its bytes, and a live tail; and all records of one request."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import Field

from infra.monitor.plain import WHOLE_CHARS, plain
from infra.monitor.reading import browse
from infra.monitor.reading.browse import RecordPage, message
from infra.monitor.reading.record_filter import Message, ReadRecord, filter_of
from infra.monitor.reading.tails import Listener
from infra.monitor.routes.event_stream import stream
from infra.monitor.routes.shared_parts import Int32, Int64, Payload, Shown, TheMonitor, TopicName
from infra.monitor.services import Monitor
from infra.records import way
from schemas.errors import InvalidRequest
from streams.kafka.admin import KafkaAdmin
from streams.rows import Place, Polled

router = APIRouter(default_response_class=Shown)

# An offset by partition: the `next` of a page.
Positions = Annotated[str, Field(max_length=2_000, pattern=r"^(\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*)?$")]
Match = Annotated[str, Field(max_length=500)]
Bounds = Mapping[Place, tuple[int, int]]


@dataclass(frozen=True)
class RequestWay:
    """records: those that name the request, in time order. whole: whether all that could was looked through in time."""

    request_id: str
    records: list[ReadRecord]
    whole: bool


@router.get("/api/topics/{topic}/records", response_class=Payload)
def records(
    monitor: TheMonitor,
    topic: TopicName,
    partition: Int32 | None = None,
    offset: Int64 | None = None,
    at_ms: Int64 | None = None,
    oldest: bool = False,
    after: Positions = "",
    before: Positions = "",
    match: Match = "",
    limit: Annotated[int, Field(ge=1, le=browse.MOST)] = 50,
) -> RecordPage:
    """The newest records first; from an offset, a time or the oldest on: oldest first. `after` and `before` are `next` of a page, as
    partition:offset,…; match: see `infra.monitor.reading.record_filter.filter_of`."""
    bounds: Bounds = monitor.bounds(topic)
    if partition is not None:
        bounds = {place: found for place, found in bounds.items() if place[1] == partition}
        if not bounds:
            raise InvalidRequest(f"{topic} has no partition {partition}")
    keep = filter_of(match) if match.strip() else None
    start = _start(monitor, topic, bounds, offset, at_ms, oldest, after)
    if before:
        highs = _positions(topic, before)
        bounds = {place: (low, max(low, min(high, highs.get(place, high)))) for place, (low, high) in bounds.items()}
    with monitor.reads.turn():
        return browse.page(monitor.address, monitor.ids, bounds, start, limit, keep)


@router.get("/api/topics/{topic}/records/{partition}/{offset}", response_class=Payload)
def record(monitor: TheMonitor, topic: TopicName, partition: Int32, offset: Int64) -> Message:
    """One record, whole."""
    return message(_one(monitor, topic, partition, offset), 0, monitor.ids, WHOLE_CHARS)


@router.get("/api/topics/{topic}/records/{partition}/{offset}/raw", response_class=Response)
def raw(monitor: TheMonitor, topic: TopicName, partition: Int32, offset: Int64) -> Response:
    """Its value byte for byte."""
    polled = _one(monitor, topic, partition, offset)
    name = f'attachment; filename="{topic}-{partition}-{offset}.bin"'
    return Response(polled.values[0] or b"", media_type="application/octet-stream", headers={"Content-Disposition": name})


@router.get("/api/topics/{topic}/tail", response_class=StreamingResponse)
async def tail(monitor: TheMonitor, request: Request, topic: TopicName, match: Match = "") -> StreamingResponse:
    """Records as they come, as server-sent events: `{"record"}`, `{"skipped"}` or `{"trouble"}`."""
    keep = filter_of(match) if match.strip() else None
    if topic not in monitor.watch.latest().topics:
        await asyncio.to_thread(monitor.bounds, topic)
    return stream(monitor, request, monitor.tails.open(topic), Listener(keep))


@router.get("/api/requests/{request_id}", response_class=Payload)
def request_way(monitor: TheMonitor, request_id: Annotated[str, Field(min_length=1, max_length=200)]) -> RequestWay:
    """Every record that names the request, in time order."""
    with monitor.reads.turn():
        found = way(monitor.address, monitor.ids, request_id)
    return RequestWay(request_id, [ReadRecord(**plain(one)) for one in found.records], found.whole)


def _positions(topic: str, text: str) -> dict[Place, int]:
    return {(topic, int(p)): int(o) for p, o in (part.split(":") for part in text.split(",") if part)}


def _start(
    monitor: Monitor, topic: str, bounds: Bounds, offset: int | None, at_ms: int | None, oldest: bool, after: str
) -> dict[Place, int] | None:
    if after:
        return _positions(topic, after)
    if offset is not None:
        return dict.fromkeys(bounds, offset)
    if at_ms is not None:
        return KafkaAdmin(monitor.address).offsets_at(list(bounds), at_ms)
    return {place: low for place, (low, _) in bounds.items()} if oldest else None


def _one(monitor: Monitor, topic: str, partition: int, offset: int) -> Polled:
    low, high = monitor.bounds(topic).get((topic, partition), (0, 0))
    with monitor.reads.turn():
        polled = browse.raw(monitor.address, {(topic, partition): [offset]}) if low <= offset < high else Polled()
    if not len(polled):
        raise InvalidRequest(
            f"{topic}/{partition} has no record at {offset}: it holds {low} to {high - 1}, and some offsets are markers"
        )
    return polled
