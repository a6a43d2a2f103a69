"""The data that every page needs: the catalogue, the snapshot once or as a stream, and its history; and the same for
Prometheus."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import PlainTextResponse, Response, StreamingResponse
from pydantic import Field

from infra.monitor import pipeline, prometheus
from infra.monitor.pipeline import GraphEdge, GraphNode, TopicAbout
from infra.monitor.reading.tails import SNAPSHOTS_ROOM, Listener
from infra.monitor.redrive import MOST_REDRIVES
from infra.monitor.routes.event_stream import stream
from infra.monitor.routes.shared_parts import Int64, Shown, TheMonitor
from infra.monitor.watching import model_timeline
from infra.monitor.watching.figures_history import Samples
from infra.monitor.watching.model_timeline import ShippedModel
from infra.monitor.watching.snapshot import Snapshot
from infra.monitor.watching.story import Mark

router = APIRouter(default_response_class=Shown)


@dataclass(frozen=True)
class Catalogue:
    """What does not change while the monitor runs. most_redrives: how often a letter may be sent again as it was."""

    topics: list[TopicAbout]
    nodes: list[GraphNode]
    edges: list[GraphEdge]
    models: list[ShippedModel]
    most_redrives: int


@dataclass(frozen=True)
class MarkedSamples(Samples):
    """marks: what happened meanwhile, oldest first."""

    marks: list[Mark]


@dataclass(frozen=True)
class ScrapeTarget:
    """As Prometheus' http_sd_configs take it."""

    targets: list[str]
    labels: dict[str, str]


@router.get("/api/catalogue")
def catalogue() -> Catalogue:
    """Topics, the graph of the pipeline, and the models that are shipped."""
    nodes, edges = pipeline.graph()
    return Catalogue(pipeline.catalogue(), nodes, edges, model_timeline.known(), MOST_REDRIVES)


@router.get("/api/snapshot", response_model=Snapshot)
def snapshot(monitor: TheMonitor) -> Response:
    """What `/api/live` sends, once."""
    return Response(monitor.watch.latest_json(), media_type="application/json")


@router.get("/api/live", response_class=StreamingResponse)
async def live(monitor: TheMonitor, request: Request) -> StreamingResponse:
    """A snapshot as it is made, as server-sent events."""
    return stream(monitor, request, monitor.hub, Listener(queue=asyncio.Queue(SNAPSHOTS_ROOM)))


@router.get("/api/history")
def history(
    monitor: TheMonitor,
    series: Annotated[list[Annotated[str, Field(max_length=300)]], Query(max_length=100)],
    from_ms: Int64 = 0,
    points: Annotated[int, Field(ge=10, le=1_800)] = 600,
) -> MarkedSamples:
    """Series by name, as `loop/NAME/queue_p99_ms`: `*` in the place of NAME gives one for each."""
    found = monitor.sampler.history.read(series, from_ms, points)
    return MarkedSamples(found.at_ms, found.series, monitor.story.marks(from_ms))


@router.get("/metrics", response_class=PlainTextResponse)
def metrics(monitor: TheMonitor) -> PlainTextResponse:
    """Lag and waiting dead letters for Prometheus; the loops serve their own figures, whose addresses are at `/api/prometheus`."""
    return PlainTextResponse(prometheus.page(monitor.watch.latest()), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/api/prometheus")
def targets(monitor: TheMonitor) -> list[ScrapeTarget]:
    """Every loop that runs."""
    running = monitor.story.running(monitor.clock.now_ms())
    return [
        ScrapeTarget([one["metrics_address"]], {"process": name, "task": one["task"]}) for name, one in sorted(running.items())
    ]
