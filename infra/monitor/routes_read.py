"""What anybody on this machine may read, as JSON."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query
from fastapi.responses import PlainTextResponse, Response
from pydantic import Field

from infra.monitor import browse, forms, letters, model_timeline, other_packages, pipeline, prometheus
from infra.monitor.answers import Payload
from infra.monitor.plain import WHOLE_CHARS, plain
from infra.monitor.redrive import MOST_REDRIVES
from infra.monitor.services import Int32, Int64, Model, Monitor, Topic, is_of
from infra.monitor.watching import servers
from infra.records import decoded_one, way
from schemas.errors import InvalidRequest
from schemas.topics import AUDIT, DRIFT_EVENTS
from streams.kafka.admin import KafkaAdmin
from streams.rows import Place, Polled

# by partition, an offset: what `next` of a page holds
Positions = Annotated[str, Field(max_length=2_000, pattern=r"^(\d{1,9}:\d{1,18}(,\d{1,9}:\d{1,18})*)?$")]


def add(app: FastAPI, monitor: Monitor) -> None:
    watch = monitor.watch

    async def command(*question: Hashable, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Another package's own command, once for all who ask the same."""
        found: dict[str, Any] = await monitor.shared.ask(question, make)
        return found

    @app.get("/api/catalogue")
    def catalogue() -> dict[str, Any]:
        """Topics, the graph of the pipeline, and what a token would allow: what does not change while the monitor runs."""
        nodes, edges = pipeline.graph()
        return {
            "topics": pipeline.catalogue(), "nodes": [asdict(one) for one in nodes], "edges": [asdict(one) for one in edges],
            "models": model_timeline.known(), "most_redrives": MOST_REDRIVES,
        }  # fmt: skip

    @app.get("/api/snapshot")
    def snapshot() -> dict[str, Any]:
        """What `/api/live` sends, once."""
        return watch.snapshot

    @app.get("/api/history")
    def history(
        series: Annotated[list[Annotated[str, Field(max_length=300)]], Query(max_length=100)],
        from_ms: Int64 = 0,
        points: Annotated[int, Field(ge=10, le=1_800)] = 600,
    ) -> dict[str, Any]:
        """Series by name, as `loop/NAME/queue_p99_ms`: `*` in the place of NAME gives one for each."""
        with watch.lock:
            names = [name for wanted in series for name in _matching(wanted, watch.history.names())]
            times, values = watch.history.read(names[:400], from_ms, points)
            marks = [asdict(mark) for mark in watch.story.marks if mark.at_ms >= from_ms]
        return {"at_ms": times, "series": values, "marks": marks}

    @app.get("/api/topics/{topic}")
    def one_topic(topic: Topic) -> dict[str, Any]:
        """Partitions with their bounds and the positions of groups, the settings that the broker has, the schema's versions."""
        bounds = monitor.bounds(topic)
        about = pipeline.about(topic)
        newest = monitor.ids.newest(about["subject"]) if about else None
        committed = watch.committed(topic)
        return {
            "topic": topic, "about": about, "config": KafkaAdmin(monitor.address).config_of([topic])[topic],
            "partitions": [
                {"partition": place[1], "first": low, "end": high, "groups": {g: p[place[1]] for g, p in committed.items() if place[1] in p}}
                for place, (low, high) in sorted(bounds.items())
            ],
            "schema": newest[2] if newest else None, "schema_version": newest[0] if newest else None,
        }  # fmt: skip

    @app.get("/api/topics/{topic}/records", response_class=Payload)
    def records(
        topic: Topic,
        partition: Int32 | None = None,
        offset: Int64 | None = None,
        at_ms: Int64 | None = None,
        oldest: bool = False,
        after: Positions = "",
        before: Positions = "",
        match: Annotated[str, Field(max_length=500)] = "",
        limit: Annotated[int, Field(ge=1, le=browse.MOST)] = 50,
    ) -> dict[str, Any]:
        """The newest records first; from an offset, a time or the oldest on: oldest first. `after` and `before` are `next` of a page, as
        partition:offset,…; match: see `infra.monitor.browse.filter_of`."""
        bounds = monitor.bounds(topic)
        if partition is not None:
            bounds = {place: found for place, found in bounds.items() if place[1] == partition}
            if not bounds:
                raise InvalidRequest(f"{topic} has no partition {partition}")
        keep = browse.filter_of(match) if match.strip() else None
        start = _start(monitor, topic, bounds, offset, at_ms, oldest, after)
        if before:
            highs = _positions(topic, before)
            bounds = {place: (low, max(low, min(high, highs.get(place, high)))) for place, (low, high) in bounds.items()}
        with monitor.reads.turn():
            return browse.page(monitor.address, monitor.ids, bounds, start, limit, keep)

    @app.get("/api/topics/{topic}/records/{partition}/{offset}", response_class=Payload)
    def record(topic: Topic, partition: Int32, offset: Int64) -> dict[str, Any]:
        """One record, whole."""
        polled = _one(monitor, topic, partition, offset)
        found: dict[str, Any] = plain(decoded_one(polled, 0, monitor.ids), WHOLE_CHARS)
        found["bytes"] = len(polled.values[0] or b"")
        return found

    @app.get("/api/topics/{topic}/records/{partition}/{offset}/raw")
    def raw(topic: Topic, partition: Int32, offset: Int64) -> Response:
        """Its value byte for byte."""
        polled = _one(monitor, topic, partition, offset)
        name = f'attachment; filename="{topic}-{partition}-{offset}.bin"'
        return Response(polled.values[0] or b"", media_type="application/octet-stream", headers={"Content-Disposition": name})

    @app.get("/api/topics/{topic}/form", response_class=Payload)
    def form(topic: Topic) -> dict[str, Any]:
        """The newest schema, and a value that it takes."""
        about = pipeline.about(topic)
        newest = monitor.ids.newest(about["subject"]) if about else None
        if about is None or newest is None:
            raise InvalidRequest(f"nothing can be produced to {topic}: what it holds is not said by a schema of its own")
        version, _, schema = newest
        return {
            "schema": schema,
            "version": version,
            "examples": other_packages.examples(about["record"]),
            "example": forms.example(schema),
        }

    @app.get("/api/requests/{request_id}", response_class=Payload)
    def request_way(request_id: Annotated[str, Field(min_length=1, max_length=200)]) -> dict[str, Any]:
        """Every record that names the request, in time order."""
        with monitor.reads.turn():
            found = way(monitor.address, monitor.ids, request_id)
        return {"request_id": request_id, "records": plain(found.records), "whole": found.whole}

    @app.get("/api/deadletters")
    def dead_letters() -> dict[str, Any]:
        """Groups by cause, the most waiting first; and the redrive that is under way, or the last one."""
        with watch.lock:
            groups = letters.grouped(watch.story.letters.values(), watch.story.redriven)
            dropped = watch.story.letters_dropped
        return {"groups": [asdict(one) for one in groups], "run": monitor.actions.redrives.run, "not_shown": dropped}

    @app.get("/api/deadletters/{topic}")
    def letters_of(
        topic: Topic,
        step: Annotated[str, Field(max_length=200)] | None = None,
        code: Annotated[str, Field(max_length=200)] | None = None,
        waiting: bool = False,
        limit: Annotated[int, Field(ge=1, le=1_000)] = 200,
    ) -> dict[str, Any]:
        """The newest first."""
        with watch.lock:
            redriven = watch.story.redriven
            found = [one for one in watch.story.letters.values() if is_of(one, topic, step, code)]
            found.sort(key=lambda one: (one.at_ms, one.position), reverse=True)
            said = [{**asdict(one), "redriven": redriven.get(one.position)} for one in found]
        if waiting:
            said = [one for one in said if one["redriven"] is None]
        return {"letters": said[:limit], "n": len(said)}

    @app.get("/api/models")
    def all_models() -> dict[str, Any]:
        """Each model: who was live when, who stands beside it, what each worker said, and the reports of the gate."""
        with watch.lock:
            return {"models": model_timeline.stories(watch.story)}

    @app.get("/api/models/{name}/versions")
    async def versions_of(name: Model) -> dict[str, Any]:
        """Versions of the MLflow registry, with their figures; none where no registry runs."""
        return await command("versions", name, make=lambda: other_packages.versions(monitor.settings, name))

    @app.get("/api/models/{name}/accuracy")
    async def accuracy_of(
        name: Model,
        hours: Annotated[float, Field(gt=0, le=168)] = 1.0,
    ) -> dict[str, Any]:
        """How often it was right over time, of the answers whose label came."""
        return await command("accuracy", name, hours, make=lambda: other_packages.accuracy(monitor.settings, name, hours))

    @app.get("/api/drift")
    def drift() -> dict[str, Any]:
        """Each watched version: how far its windows are, its baseline and window as histograms, and what was found."""
        with watch.lock:
            return {"watched": model_timeline.watched(watch.story), "findings": watch.story.of(DRIFT_EVENTS.name)[-500:]}

    @app.get("/api/training")
    def training() -> dict[str, Any]:
        """Each run from its cause on, the newest first."""
        with watch.lock:
            return {"runs": model_timeline.runs(watch.story)}

    @app.get("/api/features")
    def features() -> dict[str, Any]:
        """Every feature, and how far behind each step on its way is."""
        with watch.lock:
            return {"features": other_packages.features(), "steps": other_packages.steps(watch.snapshot)}

    @app.get("/api/parity")
    async def parity(sample: Annotated[int, Field(ge=1, le=1_000)] = 100) -> dict[str, Any]:
        """The online store against the archive, feature by feature, of a sample of entities."""
        return await command("parity", sample, make=lambda: {"views": other_packages.parity(monitor.settings, sample)})

    @app.get("/api/features/{entity}/{entity_id}")
    async def feature_values(
        entity: Literal["user", "item"],
        entity_id: Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00]+$")],
    ) -> dict[str, Any]:
        """What the online store holds now, with its age."""
        question = ("values", entity, entity_id)
        return await command(*question, make=lambda: other_packages.values(monitor.settings, entity, entity_id))

    @app.get("/api/schemas")
    def schemas() -> dict[str, Any]:
        return {
            "subjects": [
                {"subject": name, "versions": len(monitor.ids.version_numbers(name))} for name in sorted(monitor.ids.subjects())
            ]
        }

    @app.get("/api/schemas/{subject}", response_class=Payload)
    def schema_versions(subject: Topic) -> dict[str, Any]:
        """Every version, oldest first, and which readers and writers it must not break."""
        found = monitor.ids.versions(subject)
        if not found:
            raise InvalidRequest(f"the registry has no subject {subject}")
        return {
            "subject": subject, "compatibility": monitor.ids.compatibility(subject),
            "versions": [{"version": version, "id": schema_id, "schema": schema} for version, schema_id, schema in found],
        }  # fmt: skip

    @app.get("/api/connectors")
    def connectors() -> dict[str, Any]:
        """Of Kafka Connect, with their tasks; never their settings, which may hold passwords."""
        found = servers.connect(monitor.settings)
        return {"address": found.address if found else None, "connectors": found.connectors() if found else []}

    @app.get("/api/audit")
    def audit(limit: Annotated[int, Field(ge=1, le=1_000)] = 200) -> dict[str, Any]:
        """Who did what, the newest first."""
        with watch.lock:
            return {"entries": plain(watch.story.of(AUDIT.name)[-limit:][::-1])}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Lag and waiting dead letters for Prometheus; the loops serve their own figures, whose addresses are at `/api/prometheus`."""
        return PlainTextResponse(prometheus.page(watch.snapshot), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/api/prometheus")
    def targets() -> list[dict[str, Any]]:
        """For Prometheus' http_sd_configs: every loop that runs."""
        with watch.lock:
            running = watch.story.running(monitor.clock.now_ms())
        return [
            {"targets": [one["metrics_address"]], "labels": {"process": name, "task": one["task"]}}
            for name, one in sorted(running.items())
        ]


def _matching(wanted: str, names: list[str]) -> list[str]:
    if "*" not in wanted:
        return [wanted]
    head, _, tail = wanted.partition("*")
    return [name for name in names if name.startswith(head) and name.endswith(tail) and len(name) >= len(wanted)]


def _positions(topic: str, text: str) -> dict[Place, int]:
    return {(topic, int(p)): int(o) for p, o in (part.split(":") for part in text.split(",") if part)}


def _start(
    monitor: Monitor,
    topic: str,
    bounds: Mapping[Place, tuple[int, int]],
    offset: int | None,
    at_ms: int | None,
    oldest: bool,
    after: str,
) -> dict[Place, int] | None:
    if after:
        return _positions(topic, after)
    if offset is not None:
        return dict.fromkeys(bounds, offset)
    if at_ms is not None:
        return KafkaAdmin(monitor.address).offsets_at(list(bounds), at_ms)
    return {place: low for place, (low, _) in bounds.items()} if oldest else None


def _one(monitor: Monitor, topic: str, partition: int, offset: int) -> Polled:
    bounds = monitor.bounds(topic)
    low, high = bounds.get((topic, partition), (0, 0))
    with monitor.reads.turn():
        polled = browse.raw(monitor.address, {(topic, partition): [offset]}) if low <= offset < high else Polled()
    if not len(polled):
        raise InvalidRequest(
            f"{topic}/{partition} has no record at {offset}: it holds {low} to {high - 1}, and some offsets are markers"
        )
    return polled
