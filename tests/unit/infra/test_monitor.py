"""The monitor's pure parts: history and lag, what pages of figures say, dead letters and redrives, forms, filters, safety."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra import browser_guard, metrics_page
from infra.local import web
from infra.monitor import app, grafana, letters, pipeline, prometheus, safety, typescript_types
from infra.monitor.reading.tails import Hub, Listener
from infra.monitor.watching import drift_watches, model_timeline
from infra.monitor.watching.figures_history import Ends, History, Samples
from infra.monitor.watching.snapshot import EdgeNow, GroupNow, Snapshot
from infra.monitor.watching.story import Story
from infra.records import topics_of_requests
from schemas import avro
from schemas.codec import Encoder
from schemas.errors import BadSettings, RecordTooLarge
from schemas.generated import AuditEntry, DriftEvent, DriftState, ModelUpdate, SwapAck
from schemas.topics import AUDIT, CATALOGUE, CONSUMPTIONS, DRIFT_EVENTS, DRIFT_STATE, MODEL_UPDATES, SWAP_ACKS
from streams import headers as h
from streams.loop.deadletter import dead_letters
from streams.metrics import CATALOGUE as CATALOGUE_OF_METRICS
from streams.metrics import Metrics
from streams.rows import OutRecords, Polled
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at

# --- history ------------------------------------------------------------------------------------------------------------


def test_history_forgets_the_oldest_and_says_where_nothing_was_known() -> None:
    history = History(samples=4)
    for i in range(6):
        history.append(1000 * i, {"a": float(i)} if i != 4 else {})
    assert history.read(["a", "never"]) == Samples([2000, 3000, 4000, 5000], {"a": [2.0, 3.0, None, 5.0], "never": [None] * 4})
    assert history.read(["a"], from_ms=4500) == Samples([5000], {"a": [5.0]})


def test_history_thins_to_means_of_what_is_known() -> None:
    history = History(samples=100)
    for i in range(100):
        history.append(i, {"a": float(i % 2)})
    found = history.read(["a"], most=10)
    assert len(found.at_ms) == 10
    assert found.series["a"] == [0.5] * 10


def test_the_age_of_the_first_unread_record_is_told_from_when_it_was_the_end() -> None:
    ends, place = Ends(samples=10), ("t", 0)
    for second, end in enumerate([0, 0, 100, 200, 200]):
        ends.append(1000 * second, {place: end})
    assert ends.age_s(place, 200, 4000) == 0.0  # nothing is unread
    assert ends.age_s(place, 100, 4000) == pytest.approx(2.0)
    assert ends.age_s(place, 150, 4000) == pytest.approx(1.5)
    assert ends.age_s(place, 0, 4000) == pytest.approx(3.0)
    late = Ends(samples=10)
    late.append(0, {place: 50})
    assert late.age_s(place, 10, 5000) == 5.0  # there before the first look: at least so old


# --- figures of loops ---------------------------------------------------------------------------------------------------


def _page(metrics: Metrics) -> metrics_page.Page:
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(metrics)
    return metrics_page.parse(generate_latest(registry).decode())


def test_a_page_is_read_as_it_was_written() -> None:
    metrics = Metrics(worker="w", task="t")
    metrics.add("dead_letters", 2, code="poison")
    metrics.add("dead_letters", 3, code="media")
    metrics.add("records_in", 10)
    metrics.observe_all("step_seconds", [0.002, 0.004, 0.2])
    before = _page(metrics)
    assert before.numbers["dead_letters"] == 5
    assert before.numbers["records_in"] == 10
    metrics.add("records_in", 30)
    metrics.observe_all("step_seconds", [0.02] * 98 + [0.9] * 2)
    now = _page(metrics)
    assert metrics_page.rates(before, now, 2.0)["records_in"] == 15
    counts = metrics_page.between(before, now, "step_seconds")
    assert sum(n for _, n in counts) == 100
    p50, p99 = metrics_page.quantile(counts, 0.5), metrics_page.quantile(counts, 0.99)
    assert p50 is not None and 0.01 < p50 <= 0.025
    assert p99 is not None and 0.5 < p99 <= 1.0
    assert metrics_page.quantile([(1.0, 0.0), (float("inf"), 0.0)], 0.5) is None


def test_a_loop_that_began_anew_counts_from_zero() -> None:
    old, new = Metrics(), Metrics()
    old.add("records_in", 1_000)
    old.observe_all("batch_size", [5.0] * 9)
    new.add("records_in", 4)
    new.observe_all("batch_size", [2.0])
    assert metrics_page.rates(_page(old), _page(new), 2.0)["records_in"] == 2
    assert [n for _, n in metrics_page.between(_page(old), _page(new), "batch_size") if n] == [1]


def test_gpus_are_read_as_their_own_tool_tells_them() -> None:
    (one,) = metrics_page.gpus_of("0, NVIDIA H100 80GB HBM3, 87, 40960, 81559\n1, broken, [N/A], [N/A], [N/A]\n\n")
    assert (one.index, one.busy_share, one.memory_bytes) == ("0", 0.87, 40_960 << 20)


# --- the graph ----------------------------------------------------------------------------------------------------------


def test_the_graph_holds_every_topic_and_every_group_and_joins_what_it_names() -> None:
    nodes, edges = pipeline.graph()
    ids = {node.id for node in nodes}
    assert {f"topic:{topic.name}" for topic in CATALOGUE} <= ids
    assert {f"group:{taken.group}" for taken in CONSUMPTIONS} <= ids
    assert all(edge.source in ids and edge.target in ids for edge in edges)
    assert len({(edge.source, edge.target) for edge in edges}) == len(edges)
    reads = {(edge.source, edge.group) for edge in edges}
    assert {(f"topic:{taken.topic.name}", taken.group) for taken in CONSUMPTIONS} <= reads


def test_every_word_of_the_catalogue_names_a_process_that_there_is() -> None:
    known = {taken.group for taken in CONSUMPTIONS} | {"views", "reconcile", "openai door"}
    assert {node.name for node in pipeline.graph()[0] if node.kind in ("worker", "processor")} == known


def test_the_catalogue_of_pages_is_what_provisioning_makes() -> None:
    kinds = {one.name: one.kind for one in pipeline.catalogue()}
    assert {topic.name for topic in CATALOGUE} == {name for name, kind in kinds.items() if kind == "topic"}
    assert {taken.dead_letter_topic for taken in CONSUMPTIONS} == {n for n, kind in kinds.items() if kind == "dead letters"}


# --- dead letters -------------------------------------------------------------------------------------------------------


def _dead(redrives: int = 0) -> Polled:
    """A dead letter as the loop writes it, as it is read again."""
    headers = {"own": b"1", h.DEADLINE_MS: b"5", h.REPLY_TO: b"replies-v1/3"}
    rows = rows_at(
        ("content-v1", 2),
        [b"value"],
        7,
        keys=[b"k"],
        headers=[headers],
        timestamps_ms=[100],
        request_ids=["request-1"],
        attempts=[2],
        redrives=[redrives],
    )
    out = dead_letters("content-v1-moderation-dlq", rows, RecordTooLarge("too large"), "task", "moderation-0")
    return _polled(out)


def _polled(out: OutRecords, offset: int = 40) -> Polled:
    assert out.partitions is not None
    return Polled(
        [(out.topic, number) for number in out.partitions], [offset] * len(out), list(out.keys), list(out.values),
        list(out.headers), [100] * len(out),
    )  # fmt: skip


def test_a_letter_says_why_and_where_from() -> None:
    found = letters.letter(_dead(), 0)
    assert (found.code, found.step, found.worker, found.origin) == ("too-large", "task", "moderation-0", "content-v1/2/7")
    assert (found.attempt, found.redrives, found.request_id) == (2, 0, "request-1")


def test_a_redrive_goes_to_the_groups_own_retry_topic_with_the_next_number() -> None:
    out = letters.redrive(_dead(redrives=1), [0], {}, 5_000)
    headers = dict(out.headers[0])
    assert (out.topic, out.keys[0], out.values[0], out.partitions) == ("content-v1-moderation-retry-1s", b"k", b"value", [2])
    assert headers[h.REDRIVE] == b"2"
    assert headers[h.NOT_BEFORE_MS] == b"5000"
    assert headers[h.ORIGIN_OFFSET] == b"7"
    assert headers["own"] == b"1"
    assert not {h.ERROR_CODE, h.DEADLINE_MS, h.REPLY_TO, h.ATTEMPT} & headers.keys()
    assert not any(name.startswith(h.KIP_1034) for name in headers)
    mended = letters.redrive(_dead(), [0], {("content-v1-moderation-dlq", 2, 40): b"new"}, 0)
    assert mended.values[0] == b"new"


def test_what_was_redriven_or_too_often_is_refused_with_the_reason() -> None:
    found = letters.letter(_dead(redrives=5), 0)
    assert letters.refusal(found, {}, 6) is None
    assert "5 times" in str(letters.refusal(found, {}, 5))
    assert "already (by ada)" in str(letters.refusal(found, {found.position: "by ada"}, 9))
    polled = _dead()
    polled.places = [("user-features-v1-user-sink-dlq", 0)]
    assert "no retry topic" in str(letters.refusal(letters.letter(polled, 0), {}, 9))


def test_letters_are_grouped_by_cause() -> None:
    one = letters.letter(_dead(), 0)
    (group,) = letters.grouped([one], {})
    assert (group.n, group.waiting, group.code, group.retry_topic) == (1, 1, "too-large", "content-v1-moderation-retry-1s")
    assert letters.grouped([one], {one.position: "by ada"})[0].waiting == 0


def test_hostile_headers_do_no_harm() -> None:
    polled = _dead()
    polled.headers = [[(h.REDRIVE, b"\xff\xfe"), (h.ATTEMPT, b"9" * 40), (h.ERROR_CODE, b"<script>")]]
    found = letters.letter(polled, 0)
    assert (found.redrives, found.attempt, found.code) == (0, 0, "<script>")


# --- what small topics tell ---------------------------------------------------------------------------------------------


def _told(story: Story, ids: MemoryRegistry, topic: Any, record: Any, at_ms: int = 1) -> None:
    ids.register(topic.subject, avro.schema(record.RECORD))
    value = Encoder(record.RECORD, topic.subject, ids).encode_one(record)
    story.take(Polled([(topic.name, 0)], [0], [b""], [value], [None], [at_ms]), ids)


def _update(version: str, at_ms: int, **more: Any) -> ModelUpdate:
    return ModelUpdate(
        model="moderation-text", version=version, uri="u", digest=version, reason="why", actor="ada", decided_ms=at_ms, **more
    )


def test_who_was_live_when_is_told_by_the_updates() -> None:
    from schemas.generated import Challenger

    story, ids = Story(), MemoryRegistry()
    canary = Challenger(arm="canary", version="2", uri="u", digest="2", share=0.2, salt="s")
    for update in (_update("1", 10, challengers=(canary,)), _update("2", 20), _update("1", 30)):
        _told(story, ids, MODEL_UPDATES, update)
    (found,) = [one for one in model_timeline.stories(story) if one.name == "moderation-text"]
    spans = [(one.arm, one.version, one.from_ms, one.to_ms) for one in found.spans]
    assert spans == [("live", "1", 0, 20), ("canary", "2", 10, 20), ("live", "2", 20, 30), ("live", "1", 30, None)]
    assert found.live == "1"


def test_the_way_of_a_request_is_looked_for_where_requests_are() -> None:
    names = topics_of_requests()
    assert len(names) == len(set(names))
    assert {"content-v1", "content-v1-moderation-dlq", "vision-results-v1", "content-actions-v1", "labels-v1", "labels-timely-v1",
            "prediction-log-v1", "prediction-outcomes-v1", "shadow-results-v1", "labels-v1-timely-retry-1s"} <= set(names)  # fmt: skip
    assert not [name for name in names if "event" in name or "feature" in name], "those are many, and name none"


def test_a_watch_shows_each_signal_and_an_embedding_as_one() -> None:
    random, story, ids = np.random.default_rng(1), Story(), MemoryRegistry()
    names = ("embedding 00", "embedding 01", "length", "said")
    baseline, window = random.normal(size=(400, 4)).astype("<f4"), random.normal(size=(400, 4)).astype("<f4")
    window[:, :2] += 3.0
    window[0] = -np.inf  # nothing is known of it
    state = DriftState(
        detector="drift", model="m", version="1", signals=names, baseline=baseline.tobytes(), window=window.tobytes(), windows=1,
        streaks={"mmd/embedding": 1}, from_ms=1, seen_ms=2, first_ms=1,
    )  # fmt: skip
    _told(story, ids, DRIFT_STATE, state)
    ((one,), finding) = drift_watches.watched(story, []), _finding("mmd", "embedding")
    assert [signal.name for signal in one.signals] == ["embedding", "length", "said"]
    shown = one.signals[0]
    assert [signal.unit != "" for signal in one.signals] == [True, False, False]
    middles = np.array(shown.edges)[:-1] + np.diff(shown.edges) / 2
    assert np.dot(shown.baseline, middles) == pytest.approx(0.9, abs=0.15), "in spreads of the baseline"
    assert np.dot(shown.window, middles) == pytest.approx(3.1, abs=0.2)
    _told(story, ids, DRIFT_EVENTS, finding)
    (one,) = drift_watches.watched(story, drift_watches.findings(story))
    assert [len(signal.findings) for signal in one.signals] == [1, 0, 0]


def _finding(trigger: str, signal: str) -> DriftEvent:
    return DriftEvent(
        event_id=f"{trigger}/m/1/{signal}/2", model="m", version="1", trigger=trigger, signal=signal, statistic=0.1, p_value=0.01,
        effect=0.3, least_effect=0.05, in_a_row=2, window=2, window_n=400, baseline_n=400, baseline_mean=0.0, window_mean=1.0,
        from_ms=1, to_ms=2,
    )  # fmt: skip


def test_an_audit_line_tells_which_letters_were_redriven_after_a_restart_too() -> None:
    story, ids = Story(), MemoryRegistry()
    entry = AuditEntry(
        audit_id="a", actor="ada", role="operator", action="redrive", subject="x", positions=("content-v1-moderation-dlq/2/40",),
        words="1", outcome="done", at_ms=5,
    )  # fmt: skip
    _told(story, ids, AUDIT, entry)
    story.take(_dead(), ids)
    assert story.dead_letters().groups()[0].waiting == 0


def test_one_swap_of_many_partitions_is_one_mark() -> None:
    story, ids = Story(), MemoryRegistry()
    ack = SwapAck(model="m", version="2", previous="1", worker="w-0", accepted=True, reason=None, loaded_ms=1.0, first_offsets=())
    for _ in range(4):
        _told(story, ids, SWAP_ACKS, ack)
    assert [(mark.kind, mark.who) for mark in story.marks()] == [("swap", "w-0")]


def test_a_record_that_does_not_decode_is_counted_and_passed_over() -> None:
    story = Story()
    story.take(Polled([(AUDIT.name, 0)], [0], [b""], [b"\x01nonsense"], [None], [1]), MemoryRegistry())
    assert (story.not_decoded, story.of(AUDIT.name)) == (1, [])


def test_prometheus_gets_lag_in_records_and_seconds() -> None:
    group = GroupNow("running", [], {"content-v1": EdgeNow(rate=1.0, lag=7.0, lag_s=2.5)}, [], 3, 0.0, {})
    page = prometheus.page(Snapshot(1, "", groups={"moderation": group}))
    assert 'millrace_group_lag_seconds{group="moderation",topic="content-v1"} 2.5' in page
    assert 'millrace_dead_letters_waiting{group="moderation"} 3' in page
    from prometheus_client.parser import text_string_to_metric_families

    assert len(list(text_string_to_metric_families(page))) == 4


def test_the_dashboard_has_every_metric_and_is_the_file() -> None:
    panels = {panel["title"]: panel for panel in grafana.dashboard()["panels"]}
    assert panels.keys() == {metric.exported for metric in CATALOGUE_OF_METRICS.values()} | {
        name for name, _ in prometheus.FAMILIES
    }
    assert json.loads(grafana.FILE.read_text()) == grafana.dashboard()
    assert len({json.dumps(panel["gridPos"]) for panel in panels.values()}) == len(panels)


def test_the_pages_types_are_what_the_interface_answers() -> None:
    assert typescript_types.FILE.read_text() == typescript_types.types(app.interface().openapi())


def test_each_answer_names_its_fields() -> None:
    document = app.interface().openapi()
    bodies = {
        f"{method} {path}": operation["responses"]["200"]["content"]["application/json"]["schema"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if "application/json" in operation["responses"]["200"].get("content", {})
    }
    assert len(bodies) > 25
    assert [name for name, schema in bodies.items() if "$ref" not in (schema.get("items") or schema)] == []


def test_a_request_may_leave_out_what_has_a_default_and_an_answer_has_every_field() -> None:
    schemas = {
        "Ask": {"type": "object", "properties": {"a": {"type": "string"}, "b": {"$ref": "#/components/schemas/Kind"}}, "required": ["a"]},
        "Kind": {"enum": ["x", "y"], "type": "string"},
        "Answer": {
            "type": "object",
            "description": "One line. */",
            "properties": {
                "at": {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}]},
                "n": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                "more": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"type": "null"}]}},
                "by": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Ask"}},
                "any": {"title": "Any"},
            },
        },
    }  # fmt: skip
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Ask"}}}}
    text = typescript_types.types({"components": {"schemas": schemas}, "paths": {"/": {"post": {"requestBody": body}}}})
    assert "  a: string;\n  b?: Kind;\n" in text
    assert 'export type Kind = "x" | "y";' in text
    assert "/** One line. * / */\nexport interface Answer {\n  at: [string, number];\n  n: number | null;\n" in text
    assert "  more: (string | null)[];\n  by: Record<string, Ask>;\n  any: Json;\n" in text


# --- safety -------------------------------------------------------------------------------------------------------------


def test_tokens_are_made_once_and_are_their_owners_alone(tmp_path: Path) -> None:
    first = safety.tokens(tmp_path / "m")
    assert safety.tokens(tmp_path / "m") == first
    assert set(first) == set(safety.ROLES)
    assert stat.S_IMODE((tmp_path / "m" / "tokens.json").stat().st_mode) == 0o600


def test_a_token_says_who_acts_and_as_what_and_a_wrong_one_nothing() -> None:
    known = {"operator": "o" * 32, "releaser": "r" * 32}
    assert safety.actor_of(None, known) is None
    assert safety.actor_of("Bearer " + "r" * 32, known) == safety.Actor(safety.owner(), "releaser")
    ada = safety.token_for("ada", known["operator"])
    assert safety.actor_of(f"Bearer {ada}", known) == safety.Actor("ada", "operator")
    wrong = [ada.replace("ada", "bob"), ada[:-1], f"bob:{known['operator']}", f"{ada}:x", "x", ""]
    for found in (*(f"Bearer {one}" for one in wrong), "Basic " + "o" * 32, "o" * 32, "Bearer \xe9:\xe9"):
        with pytest.raises(safety.NotAllowed):
            safety.actor_of(found, known)
    for name in ("", "a b", "ada:x", "x" * 65, "ä"):
        with pytest.raises(BadSettings):
            safety.token_for(name, known["operator"])


@pytest.mark.parametrize(
    ("method", "host", "origin", "site", "kind", "taken"),
    [
        ("GET", "127.0.0.1:80", None, None, None, True), ("GET", "localhost", None, None, None, True), ("GET", "[::1]:80", None, None, None, True),
        ("GET", "evil.example", None, None, None, False), ("GET", "127.0.0.1.evil.example:80", None, None, None, False), ("GET", "", None, None, None, False),
        ("POST", "127.0.0.1:80", "http://127.0.0.1:80", "same-origin", "application/json", True), ("POST", "127.0.0.1:80", None, None, "application/json; charset=utf-8", True),
        ("POST", "127.0.0.1:80", "http://evil.example", None, "application/json", False), ("POST", "127.0.0.1:80", "http://127.0.0.1:81", None, "application/json", False),
        ("POST", "127.0.0.1:80", None, "cross-site", "application/json", False), ("POST", "127.0.0.1:80", None, None, "text/plain", False), ("POST", "127.0.0.1:80", None, None, None, False),
    ],
)  # fmt: skip
def test_other_sites_and_other_names_are_refused(
    method: str, host: str, origin: str | None, site: str | None, kind: str | None, taken: bool
) -> None:
    assert (browser_guard.refused(method, host, origin, site, kind, "127.0.0.1") is None) is taken


@pytest.mark.parametrize(("site", "origin", "taken"), [
    (None, None, True), ("same-origin", None, True), ("none", None, True), ("cross-site", None, False), ("same-site", None, False),
    (None, "http://evil.example", False), (None, "http://127.0.0.1:80", True),
])  # fmt: skip
def test_another_site_reads_nothing_and_starts_no_command_but_may_link_to_a_page(
    site: str | None, origin: str | None, taken: bool
) -> None:
    for path in ("/api/parity", "/api/live", "/api/models/moderation-text/accuracy", "/metrics"):
        assert (browser_guard.refused("GET", "127.0.0.1:80", origin, site, None, "127.0.0.1", path) is None) is taken, path
    assert browser_guard.refused("GET", "127.0.0.1:80", origin, site, None, "127.0.0.1", "/topics") is None


# --- many who look ------------------------------------------------------------------------------------------------------


async def _drained(hub: Hub, listener: Listener, n: int) -> list[bytes]:
    found = []
    async for event in hub.events(listener):
        if event.startswith((b"data", b"event")):
            found.append(event)
        if len(found) >= n:
            break
    return found


def test_a_slow_reader_misses_events_is_told_so_and_holds_nobody_up() -> None:
    async def told() -> None:
        hub = Hub(asyncio.get_running_loop())
        slow, quick = Listener(queue=asyncio.Queue(2)), Listener()
        reading = asyncio.create_task(_drained(hub, quick, 6))
        lagging = hub.events(slow)
        await anext(lagging)  # the greeting: it is registered, and then reads nothing
        await asyncio.sleep(0)
        for i in range(6):
            hub.publish(b"%d" % i)
        assert await asyncio.wait_for(reading, 5) == [b"data: %d\n\n" % i for i in range(6)]
        assert [await anext(lagging) for _ in range(3)] == [b"event: missed\ndata: 4\n\n", b"data: 4\n\n", b"data: 5\n\n"]
        hub.close()
        assert [event async for event in lagging] == []

    asyncio.run(told())


def test_whoever_comes_later_gets_the_last_snapshot_at_once() -> None:
    async def told() -> None:
        hub = Hub(asyncio.get_running_loop())
        hub.publish_last(b"last")
        await asyncio.sleep(0)
        assert await asyncio.wait_for(_drained(hub, Listener(), 1), 5) == [b"data: last\n\n"]

    asyncio.run(told())


# --- its pages ----------------------------------------------------------------------------------------------------------


def test_without_node_it_says_which_command_fetches_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(web.PagesNotBuilt, match="millrace setup node"):
        web.node()


def test_a_change_of_any_source_makes_new_pages(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.ts").write_text("1")
    first = web.digest(tmp_path)
    (tmp_path / "node_modules").mkdir()
    (tmp_path / "node_modules" / "b.js").write_text("2")
    assert web.digest(tmp_path) == first
    (tmp_path / "src" / "a.ts").write_text("2")
    assert web.digest(tmp_path) != first
