"""Features in the request path: what a task gets, what the log and the result say, and each policy when something is amiss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from inference_workers.media.reader import MediaReader
from inference_workers.models.folder import ModelFolder
from inference_workers.replay import newest, replay
from inference_workers.task import Prediction, Prepared, Use, Version, Versions
from inference_workers.worker import TaskProcessor
from processors.features.enrich import ASK_AGAIN_S, READ_MS, Enrich, Enriched, Fallback, Need, logged
from processors.features.feature_blob import EntityValues, pack
from processors.features.online_store import MemoryStore
from processors.features.recent_events import to_text
from processors.features.recorded_features import RecordedFeatures
from schemas import avro
from schemas.catalogue import consumption
from schemas.codec import Encoder, read_any
from schemas.columns import Columns
from schemas.encoding import Constant
from schemas.errors import BadSettings, FeaturesRefused, RetryLater
from schemas.features import RECENT, USER
from schemas.topics import CONTENT, MODERATION_VERDICTS, PREDICTION_LOG
from streams.claim_checks import ClaimChecks
from streams.clock import ManualClock
from streams.loop.outcome import Defer, Emit, Reject
from streams.metrics import Metrics
from streams.rows import Rows
from streams.schema_registry import MemoryRegistry
from tests.support.fixed_models import FixedModels
from tests.support.rows import rows_at

FEATURES = ("total_purchases", "lifetime_value", "country")
BLANK = {f.name: f.default for f in USER.features}


class Unplugged(MemoryStore):
    """A store that stops answering when told to, and counts how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.asked = False, 0

    def read_views(self, wanted: Sequence[Any]) -> list[list[bytes | None]]:
        self.asked += 1
        if self.down:
            raise RetryLater("it does not answer")
        return super().read_views(wanted)


class Bench:
    def __init__(self, **policies: Fallback) -> None:
        self.clock, self.store, self.metrics = ManualClock(), Unplugged(), Metrics()
        self.need = Need(USER, "author_id", FEATURES, **policies)
        self.enrich = Enrich([self.need], self.store, self.clock, self.metrics)
        now_ms = self.clock.now_ms()
        self.put("fresh", now_ms, bought=3)
        self.put("old", now_ms - USER.ttl_ms - 60_000, bought=5)

    def put(self, who: str, changed_ms: int, bought: int) -> None:
        values = {**BLANK, "total_purchases": bought, "lifetime_value": bought * 1.5, "country": "CH"}
        self.store.write(USER, {who: pack(USER, EntityValues((1, changed_ms), changed_ms, None, changed_ms - 7, values))})

    def __call__(self, *authors: str | None) -> Enriched:
        return self.enrich(columns(*authors))


def columns(*authors: str | None) -> Columns:
    from schemas.columns import Slices

    return Columns(len(authors), {"author_id": Slices.of([None if a is None else a.encode() for a in authors])})


def test_a_task_finds_features_as_columns_in_the_order_of_its_requests() -> None:
    bench = Bench()
    found = bench("fresh", "nobody", None, "old").columns
    assert found.fields["user_features.total_purchases"].tolist() == [3, 0, 0, 5]  # type: ignore[union-attr]
    assert found.fields["user_features.lifetime_value"].tolist() == [4.5, 0.0, 0.0, 7.5]  # type: ignore[union-attr]
    assert found.text("user_features.country") == ["CH", "", "", "CH"]
    assert bench.store.asked == 1, "one read for all"


@pytest.mark.parametrize(
    ("state", "author", "down"), [("stale", "old", False), ("missing", "nobody", False), ("unreachable", "fresh", True)]
)
def test_each_policy_in_each_state(state: str, author: str, down: bool) -> None:
    for policy in Fallback:
        bench = Bench(**{state: policy})
        bench.store.down = down
        found = bench(author)
        values = found.columns.fields["user_features.total_purchases"].tolist()  # type: ignore[union-attr]
        match policy:
            case Fallback.REFUSE:
                assert isinstance(found.refused[0], FeaturesRefused)
                assert author in str(found.refused[0])
                assert state in str(found.refused[0])
            case Fallback.HOLD:
                assert isinstance(found.held[0], RetryLater)
            case Fallback.LAST:
                assert (values, found.refused, found.held) == ([5 if state == "stale" else 0], {}, {})
            case Fallback.DEFAULT:
                assert (values, found.refused, found.held) == ([0], {}, {})
        assert found.served[0].state.tolist() == [{"stale": 1, "missing": 2, "unreachable": 3}[state]], "never silently"


def test_two_views_of_a_user_are_one_read() -> None:
    bench = Bench()
    recent = Need(RECENT, "author_id", ("events",))
    text = to_text([(5, "i-1", "view")])
    bench.store.write(RECENT, {"fresh": pack(RECENT, EntityValues((1, 1), bench.clock.now_ms(), None, 5, {"events": text}))})
    enrich = Enrich([bench.need, recent], bench.store, bench.clock, bench.metrics)
    found = enrich(columns("fresh", None, "x" * 1_000_000, "old"), 1234).columns
    assert bench.store.asked == 1
    assert found.text("user_recent.events") == [text, "[]", "[]", "[]"]
    assert found.numbers("user_features.total_purchases") == [3, 0, 0, 5]
    assert found.numbers("user_recent#event_ms") == [5, 0, 0, 0]
    assert found.numbers(READ_MS) == [1234] * 4


def test_a_silent_store_is_not_asked_again_by_each_batch() -> None:
    bench = Bench(unreachable=Fallback.DEFAULT)
    bench.store.down = True
    for _ in range(5):
        assert bench("fresh").served[0].state.tolist() == [3]
    assert bench.store.asked == 1
    bench.store.down = False
    bench.clock.sleep(ASK_AGAIN_S)
    assert bench("fresh").served[0].state.tolist() == [0]


def test_requests_that_name_nobody_do_not_wait_for_a_silent_store() -> None:
    bench = Bench(unreachable=Fallback.HOLD)
    bench.store.down = True
    found = bench("fresh", None)
    assert (list(found.held), found.served[0].state.tolist()) == ([0], [3, 2])


# --- through the worker's step ------------------------------------------------------------------------------------


class Purchases:
    """A task whose answer is a feature."""

    name = "moderation"
    consumption = consumption("moderation")
    results = MODERATION_VERDICTS
    reads_media = False

    def __init__(self, need: Need) -> None:
        self.models: Mapping[str, str] = {"purchases": "none"}
        self.needs: Sequence[Need] = (need,)

    def load(self, folder: ModelFolder, model: str) -> Any: ...

    def prepare(self, columns: Columns, versions: Versions, media: MediaReader) -> Prepared:
        return Prepared(columns.numbers("user_features.total_purchases"), {})

    def predict(self, inputs: Sequence[Any], versions: Versions) -> Prediction:
        outputs = np.array(inputs, "<f4").reshape(-1, 1)
        thresholds = np.array([2.5], "<f4")
        return Prediction(
            {"flagged": [bought > 2 for bought in inputs]}, [Use(versions["purchases"], outputs, 0.1, thresholds=thresholds)]
        )


PURCHASES = Version(ModelFolder(Path("."), "purchases", "9", "", {"coverage": ["spam"]}, {}), None)


def step_of(bench: Bench) -> tuple[TaskProcessor, MemoryRegistry]:
    ids = MemoryRegistry()
    for record, topic in (("content", CONTENT), ("moderation-verdict", MODERATION_VERDICTS), ("prediction-log", PREDICTION_LOG)):
        ids.register(topic.subject, avro.schema(record))
    media = MediaReader(ClaimChecks(()))
    return TaskProcessor(
        Purchases(bench.need), FixedModels({"purchases": PURCHASES}), media, bench.enrich, ids, bench.clock, "w-0", bench.metrics
    ), ids


def rows_of(ids: MemoryRegistry, *authors: str | None) -> Rows:
    encoder, n = Encoder.of(CONTENT, ids), len(authors)
    values = [
        encoder.encode({"content_id": Constant(f"c{i}"), "text": Constant("hello"), "author_id": Constant(author)}, 1)[0]
        for i, author in enumerate(authors)
    ]
    return rows_at((CONTENT.name, 0), list(values), keys=[b"k"] * n)


def test_values_times_and_states_are_in_the_prediction_log_and_named_in_the_result() -> None:
    bench = Bench(missing=Fallback.REFUSE, stale=Fallback.HOLD)
    step, ids = step_of(bench)
    outcomes = step.process(rows_of(ids, "nobody", "fresh", "old", "fresh"))
    assert [(type(o), o.rows.request_ids, o.step) for o in outcomes if not isinstance(o, Emit)] == [
        (Reject, ["r0"], "enrich"),
        (Defer, ["r2"], "enrich"),
    ]
    (emit,) = [o for o in outcomes if isinstance(o, Emit)]
    results, log = emit.records[0], emit.records[1]
    verdicts = [read_any(value, ids) for value in results.values]
    event_ms = bench.clock.now_ms() - 7
    assert [v["request_id"] for v in verdicts] == ["r1", "r3"]
    assert verdicts[0]["features"] == [{"name": f"user_features.{name}", "event_time_ms": event_ms} for name in FEATURES]
    (value,) = log.values
    said = read_any(value, ids)
    assert (said["request_ids"], said["output_names"]) == (["r1", "r3"], ["spam"])
    assert np.frombuffer(said["thresholds"], "<f4").tolist() == [2.5]
    features = {one["name"]: one for one in said["features"]}
    assert np.frombuffer(features["total_purchases"]["values"], features["total_purchases"]["dtype"]).tolist() == [3, 3]
    assert np.frombuffer(features["lifetime_value"]["values"], "<f8").tolist() == [4.5, 4.5]
    assert features["country"]["texts"] == ["CH", "CH"]
    assert np.frombuffer(features["country"]["event_ms"], "<i8").tolist() == [event_ms] * 2
    assert features["country"]["state"] == b"\x00\x00"


def test_held_requests_wait_and_are_answered_when_the_store_is_back() -> None:
    bench = Bench()
    step, ids = step_of(bench)
    bench.store.down = True
    (outcome,) = step.process(rows_of(ids, "fresh"))
    assert isinstance(outcome, Defer)
    bench.store.down = False
    bench.clock.sleep(ASK_AGAIN_S)
    (outcome,) = step.process(rows_of(ids, "fresh"))
    assert isinstance(outcome, Emit)


def test_recorded_requests_are_answered_again_with_the_values_of_their_time() -> None:
    bench = Bench(missing=Fallback.REFUSE)
    step, ids = step_of(bench)
    asked = rows_of(ids, "fresh", "nobody", "fresh")  # nobody is refused: the log has no values of it
    (emit,) = [o for o in step.process(asked) if isinstance(o, Emit)]
    recorded = RecordedFeatures([bench.need])
    for value in emit.records[1].values:
        recorded.take(read_any(value, ids))
    assert len(recorded) == 2
    bench.put("fresh", bench.clock.now_ms(), bought=40)  # what the store holds by now is not what was served
    task, version = Purchases(bench.need), PURCHASES
    (again,) = replay(task, "purchases", [version], iter([asked]), ids, served=recorded)
    assert (again.request_ids, np.concatenate(again.outputs).tolist(), again.refused) == (["r0", "r2"], [[3.0], [3.0]], 1)
    with pytest.raises(BadSettings, match="needs features"):
        replay(task, "purchases", [version], iter([asked]), ids)


def test_texts_and_numbers_come_back_as_they_were_given() -> None:
    bench = Bench()
    found = bench("fresh", None, "old")
    record = {"task": "moderation", "started_ms": 77, "request_ids": ["a", "b", "c"], "features": logged(found, None)}
    recorded = RecordedFeatures([bench.need])
    recorded.take(record)
    recorded.take({**record, "features": []})
    assert not recorded.knows("d")
    again = recorded.beside(columns("x", "y"), ["c", "a"])
    assert again.numbers(READ_MS) == [77, 77]
    for column in (bench.need.state_column, bench.need.event_ms_column):
        assert again.numbers(column) == [found.columns.numbers(column)[row] for row in (2, 0)]
    for name in FEATURES:
        column = bench.need.column(name)
        if name == "country":
            assert again.text(column) == [found.columns.text(column)[row] for row in (2, 0)]
        else:
            assert again.numbers(column) == [found.columns.numbers(column)[row] for row in (2, 0)]


def test_of_more_than_is_asked_for_the_newest_are_replayed() -> None:
    starts, ends = {("t", 0): 0, ("t", 1): 10, ("t", 2): 5}, {("t", 0): 100, ("t", 1): 310, ("t", 2): 5}
    assert newest(starts, ends, 400) is starts
    assert newest(starts, ends, 40) == {("t", 0): 90, ("t", 1): 280, ("t", 2): 5}
