"""A watch over time: traffic that is not independent, state that was kept under other settings, and what the detector does with columns and versions."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.durations import DAY_MS
from schemas.errors import BadSettings, RetryLater
from schemas.generated import DriftState, ModelUpdate
from schemas.topics import DRIFT, DRIFT_EVENTS, DRIFT_STATE, MODEL_UPDATES, PREDICTION_LOG
from streams.broker import Commit
from streams.loop.outcome import Emit
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry
from streams.terminal_text import moment, moment_ms
from tests.benchmarks.dependence import TRAFFIC, rules_of, version
from tests.support.rows import rows_at
from training_triggers.drift.detect import VERSIONS_KEPT, Detector, of_log
from training_triggers.drift.renew_baseline import wish
from training_triggers.drift.version_watch import STATE_BYTES, VersionWatch, WatchRules
from training_triggers.drift.watch_state import state_of, watch_of
from training_triggers.runs.report import dark, row_of, unlabelled
from training_triggers.settings import TriggerSettings
from training_triggers.triggers import accuracy, chi_square, ks, psi
from training_triggers.triggers.age import Age
from training_triggers.triggers.baseline_spread import Spread
from training_triggers.triggers.volume import Volume
from training_triggers.versions.promotion import as_shipped

COLUMNS = (ks.TRIGGER, psi.TRIGGER, chi_square.TRIGGER)
sizes = st.integers(20, 300)


def filled(rules: WatchRules, entries: int, seed: int = 1, signals: int = 1) -> VersionWatch:
    watch = VersionWatch(tuple(f"s{i}" for i in range(signals)), COLUMNS, rules)
    watch.add(np.random.default_rng(seed).normal(size=(entries, signals)).astype(np.float32), 1)
    return watch


def again(watch: VersionWatch, rules: WatchRules) -> VersionWatch:
    """As after a restart under these rules."""
    return watch_of(DriftState.from_dict(read(state_of(watch, "drift", "m", "1"))), watch.triggers, rules)


def read(state: DriftState) -> dict[str, Any]:
    ids = MemoryRegistry()
    ids.register(DRIFT_STATE.subject, avro.schema("drift-state"))
    return read_any(Encoder.of(DRIFT_STATE, ids).encode_one(state), ids)


# --- state under other settings -----------------------------------------------------------------------------------


@given(sizes, sizes, st.integers(0, 900), st.integers(1, 400))
@settings(max_examples=150, deadline=None)
def test_a_window_that_was_set_anew_neither_hangs_nor_fills_an_old_baseline(old: int, new: int, seen: int, more: int) -> None:
    before = filled(WatchRules(old), seen)
    after = again(before, WatchRules(new))
    if new > old and len(before.baseline):
        assert len(after.baseline) == 0, "today's traffic would complete it"
        assert f"raised from {old} to {new}" in after.note
    if new < old:
        assert len(after.baseline) == (new if len(before.baseline) else 0)
        assert set(after.baseline[:, 0]) <= set(before.baseline[:, 0])
        assert "lowered" in after.note
    if new == old:
        assert (after.baseline == before.baseline).all()
        assert not after.note
    after.add(np.random.default_rng(2).normal(size=(more, 1)).astype(np.float32), 2)
    assert len(after.baseline) in (0, new)
    assert len(after.window) < new
    assert after.entries == seen + more
    assert again(after, WatchRules(new)).window_n == new


def test_a_longer_span_begins_the_baseline_anew_and_a_shorter_one_settles_it() -> None:
    kept = filled(WatchRules(50, baseline_ms=0), 120)
    assert kept.settled
    longer = again(kept, WatchRules(50, baseline_ms=60_000))
    assert (len(longer.baseline), longer.settled) == (0, False)
    assert "is to span 60 s" in longer.note
    filling = filled(WatchRules(50, baseline_ms=60_000), 120)
    assert not filling.settled
    assert len(again(filling, WatchRules(50, baseline_ms=60_000)).baseline) == 50
    shorter = again(filling, WatchRules(50, baseline_ms=0))
    shorter.add(np.zeros((50, 1), np.float32), 2)
    assert shorter.settled


@pytest.mark.parametrize(
    "broken", [{"rules": 0}, {"rules": 99}, {"baseline": b"123"}, {"spread": b""}, {"window_n": 7}, {"asked_n": 0}]
)
def test_a_state_of_other_rules_or_one_that_does_not_hold_together_begins_anew_and_says_so(broken: dict[str, Any]) -> None:
    state = replace(state_of(filled(WatchRules(50), 130), "drift", "m", "1"), **broken)
    found = watch_of(state, COLUMNS, WatchRules(50))
    assert (len(found.baseline), found.windows) == (0, 1), "windows are counted on: no two findings have one id"
    assert "anew" in found.note


def test_what_is_due_by_count_or_age_is_not_told_at_once_because_its_size_was_set_anew() -> None:
    kept = filled(WatchRules(50, due=(Volume(100), Age(0))), 1_050)
    assert kept.streaks["due volume 100"] == 10
    for size in (1_000, 10):
        found = again(kept, WatchRules(50, due=(Volume(size), Age(0))))
        assert found.add(np.zeros((1, 1), np.float32), 2) == [], size
        told = [alarm for alarm in found.add(np.zeros((size, 1), np.float32), 3) if alarm.trigger.name == "volume"]
        assert [alarm.window for alarm in told] == [1051 // size + 1]


@pytest.mark.parametrize("signals", [1, 30, 84])
def test_a_state_fits_its_record_whatever_was_set(signals: int) -> None:
    rules = WatchRules(20_000)
    n = rules.fitting(signals)
    watch = VersionWatch(tuple(f"s{i}" for i in range(signals)), (), rules)
    watch.add(np.random.default_rng(1).normal(size=(2 * n - 1, signals)).astype(np.float32), 1)
    assert (len(watch.baseline), len(watch.window)) == (n, n - 1)
    ids = MemoryRegistry()
    ids.register(DRIFT_STATE.subject, avro.schema("drift-state"))
    assert len(Encoder.of(DRIFT_STATE, ids).encode_one(state_of(watch, "drift", "m", "1"))) < DRIFT_STATE.max_record_bytes
    assert 8 * n * signals <= STATE_BYTES
    assert again(watch, rules).window_n == n


# --- traffic that is not independent ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRAFFIC)
def test_traffic_that_does_not_change_is_no_finding_however_it_depends_on_itself(name: str) -> None:
    """6 to 15 versions of 12 windows each: at 5 % a version of each trigger, more than 3 come less than once in 180 times."""
    traffic, a_day = TRAFFIC[name]
    random = np.random.default_rng(21)
    found = [version(random, traffic, a_day, COLUMNS, rules_of(a_day, 500), 12) for _ in range(6 if a_day else 15)]
    for trigger in found[0]:
        assert sum(np.isfinite(one[trigger]) for one in found) <= 3, trigger


@pytest.mark.parametrize(("name", "shift"), [("independent", 1.0), ("bursts of 10", 1.5), ("daily rhythm of 0.5", 2.5)])
def test_a_change_is_found_within_three_windows_all_the_same(name: str, shift: float) -> None:
    traffic, a_day = TRAFFIC[name]
    random = np.random.default_rng(22)
    found = [
        version(random, traffic, a_day, (ks.TRIGGER,), rules_of(a_day, 500), 5, shift)["ks"] for _ in range(4 if a_day else 8)
    ]
    assert np.median(found) <= 1_500


def test_the_design_effect_is_the_length_of_bursts() -> None:
    random = np.random.default_rng(3)
    for length in (1, 10, 30):
        windows = [np.repeat(random.normal(size=(1_200 // length, 2)), length, axis=0) for _ in range(12)]
        spread = Spread.of(windows[0])
        for one in windows[:-1]:
            spread.add(one)
        found = spread.design_effects(windows[-1])
        assert ((found >= 0.7 * length) & (found <= 2.5 * length)).all(), "cautious, and of the right size"


def test_a_signal_that_never_moves_has_no_effect() -> None:
    still = np.column_stack([np.ones(100), np.full(100, -np.inf)])
    spread = Spread.of(still)
    for _ in range(6):
        spread.add(still)
    assert spread.design_effects(still).tolist() == [1, 1]


def test_a_baseline_of_a_day_holds_as_much_of_each_hour() -> None:
    rules = WatchRules(200, baseline_ms=DAY_MS)
    watch = VersionWatch(("hour",), (), rules)
    for hour in range(25):
        watch.add(np.full((200, 1), hour, np.float32), 1 + hour * DAY_MS // 24)
    assert watch.settled
    assert 9 < watch.baseline.mean() < 15
    assert len(np.unique(watch.baseline)) > 20
    kept = watch.baseline.copy()
    watch.add(np.full((200, 1), 99, np.float32), DAY_MS * 2)
    assert (watch.baseline == kept).all(), "settled, it learns no more"


def test_while_the_baseline_fills_a_change_is_told_once() -> None:
    random, watch = np.random.default_rng(3), VersionWatch(("s",), (ks.TRIGGER,), WatchRules(200, baseline_ms=DAY_MS))
    found = [alarm for i in range(8) for alarm in watch.add(random.normal(3.0 * (i > 1), 1, (200, 1)).astype(np.float32), 1 + i)]
    assert [alarm.window for alarm in found] == [3]
    assert found[0].baseline_ms < 10


@pytest.mark.parametrize("share", [0.6, 0.8, 0.9, 0.95, 0.99])
def test_an_accuracy_that_stays_asks_for_nothing_however_long_it_is_watched(share: float) -> None:
    """20 versions, 60 windows each; with the 5 % of each version more than 4 come less than once in 300 times."""
    random, wrong = np.random.default_rng(23), 0
    for _ in range(20):
        watch = VersionWatch(("right",), (accuracy.TRIGGER,), WatchRules(200))
        wrong += bool(watch.add((random.random((61 * 200, 1)) < share).astype(np.float32), 1))
    assert wrong <= 4
    fallen = VersionWatch(("right",), (accuracy.TRIGGER,), WatchRules(200))
    fallen.add((random.random((600, 1)) < share).astype(np.float32), 1)
    assert fallen.add((random.random((600, 1)) < share - 0.3).astype(np.float32), 1)


# --- the detector -------------------------------------------------------------------------------------------------


class Events:
    def __init__(self) -> None:
        self.values: list[bytes | None] = []
        self.updates: list[bytes | None] = []

    def poll(self) -> Polled:
        n = len(self.values) + len(self.updates)
        places = [(DRIFT_EVENTS.name, 0)] * len(self.values) + [(MODEL_UPDATES.name, 0)] * len(self.updates)
        values, self.values, self.updates = [*self.values, *self.updates], [], []
        return Polled(places, list(range(n)), [None] * n, values, [None] * n, [0] * n)

    def read_to_end(self, limit_s: float) -> Polled:
        return self.poll()

    def close(self) -> None:
        return


class DetectorUnderTest:
    def __init__(self, rules: WatchRules = WatchRules(50)) -> None:  # noqa: B008
        self.ids, self.rules, self.states, self.events = MemoryRegistry(), rules, list[DriftState](), Events()
        for topic in (PREDICTION_LOG, DRIFT_STATE, DRIFT_EVENTS, MODEL_UPDATES):
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
        self.log, self.random = Encoder.of(PREDICTION_LOG, self.ids), np.random.default_rng(1)
        self.start()

    def start(self) -> None:
        self.detector = Detector(
            DRIFT, of_log, COLUMNS, self.rules, self.ids, "drift-0", lambda: self.states, lambda: self.events
        )
        self.detector.restore({(PREDICTION_LOG.name, number): Commit(0) for number in range(PREDICTION_LOG.partitions)})

    def batch(self, version: str, columns: str, n: int = 10, at_ms: int = 1, shift: float = 0.0) -> list[dict[str, Any]]:
        """What it writes of one batch through a model; its findings."""
        values = self.random.normal(shift, 1, n).astype("<f4").tobytes()
        (value,) = self.log.encode(
            {
                name: [one]
                for name, one in {
                    "worker": "w",
                    "task": "t",
                    "model": "m",
                    "version": version,
                    "arm": "live",
                    "started_ms": at_ms,
                    "compute_ms": 1.0,
                    "request_ids": [str(i) for i in range(n)],
                    "origin_topic": "t",
                    "origin_partitions": bytes(4 * n),
                    "origin_offsets": bytes(8 * n),
                    "outputs": bytes(4 * n),
                    "outputs_dtype": "<f4",
                    "outputs_shape": [n],
                    "signals": [{"name": name, "values": values} for name in columns],
                }.items()
            },
            1,
        )
        rows = rows_at((PREDICTION_LOG.name, 0), [value], keys=[b"m"], timestamps_ms=[at_ms])
        (outcome,) = self.detector.process(rows)
        assert isinstance(outcome, Emit)
        written = {records.topic: [read_any(value, self.ids) for value in records.values] for records in outcome.records}
        self.states += [DriftState.from_dict(one) for one in written.get(DRIFT_STATE.name, [])]
        return written.get(DRIFT_EVENTS.name, [])

    def watch(self, version: str = "1") -> VersionWatch:
        return self.detector.watches["m", version]


def test_a_worker_that_logs_a_column_less_does_not_begin_the_baseline_anew() -> None:
    world = DetectorUnderTest()
    for i in range(20):
        world.batch("1", ("ab", "abc")[i % 2])
    watch = world.watch()
    assert (watch.signals, watch.ignored, len(watch.baseline), watch.windows) == (("a", "b"), frozenset("c"), 50, 2), (
        "before there is a baseline a new column begins it anew once"
    )
    for i in range(20):
        world.batch("1", ("ab", "b")[i % 2])
    assert (watch.signals, watch.ignored, watch.windows) == (("b",), frozenset("ac"), 6)
    world.start()
    assert (world.watch().signals, world.watch().ignored, len(world.watch().baseline)) == (("b",), frozenset("ac"), 50)


def test_a_batch_without_columns_leaves_the_watch_and_other_columns_begin_it_anew() -> None:
    world = DetectorUnderTest()
    world.batch("1", "a", 60)
    world.batch("1", "", 60)
    assert (world.watch().signals, len(world.watch().baseline)) == (("a",), 50)
    world.batch("1", "z", 60)
    assert (world.watch().signals, len(world.watch().baseline)) == (("z",), 50)
    assert "anew" in world.watch().note
    bare = DetectorUnderTest()
    for _ in range(20):
        bare.batch("2", "", 30)
    assert bare.watch("2").entries == 600


def test_watches_are_kept_by_use_here_and_after_a_restart() -> None:
    world = DetectorUnderTest()
    for version_ in ("1", "2", "3", "1", "4"):
        world.batch(version_, "a", 60)
    assert {key[1] for key in world.detector.watches} == {"3", "1", "4"}
    world.start()
    assert len(world.detector.watches) == VERSIONS_KEPT
    assert len(world.watch("1").baseline) == 50


def test_a_person_may_ask_for_a_new_baseline_once() -> None:
    world = DetectorUnderTest()
    world.batch("1", "a", 60, at_ms=1_000)
    value = Encoder.of(DRIFT_EVENTS, world.ids).encode_one(wish("m", 2_000))
    world.events.values = [b"junk", None, value]
    world.batch("1", "a", 10, at_ms=1_999)
    assert len(world.watch().baseline) == 50, "what was answered before it was asked belongs to the old one"
    world.batch("1", "a", 60, at_ms=2_000, shift=9.0)
    assert world.watch().baseline.mean() > 5
    assert "a person" in world.watch().note
    world.events.values = [value]
    world.start()
    world.batch("1", "a", 60, at_ms=3_000)
    assert world.watch().baseline.mean() > 5, "that wish was met"


def test_another_model_under_a_known_versions_name_gets_a_baseline_of_its_own() -> None:
    world = DetectorUnderTest()

    def update(digest: str, at_ms: int) -> bytes:
        found = ModelUpdate(model="m", version="1", uri="file:/m", digest=digest, reason="", actor="", decided_ms=at_ms)
        return Encoder.of(MODEL_UPDATES, world.ids).encode_one(found)

    world.batch("1", "a", 60, at_ms=1_000)
    world.events.updates = [b"junk", None, update("d1", 1_500), update("d1", 1_600)]
    world.batch("1", "a", 10, at_ms=1_700)
    assert not world.watch().note, "the same again"
    world.events.updates = [update("d2", 2_000)]
    world.batch("1", "a", 60, at_ms=2_500, shift=9.0)
    assert world.watch().baseline.mean() > 5
    assert "another model" in world.watch().note


def test_what_a_baseline_begins_anew_for_waits_while_the_registry_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    world = DetectorUnderTest()
    world.batch("1", "a", 60, at_ms=1_000)
    world.events.values = [Encoder.of(DRIFT_EVENTS, world.ids).encode_one(wish("m", 2_000))]

    def silent(subject: str, *, anew: bool) -> list[int]:
        raise RetryLater("the registry does not answer")

    with monkeypatch.context() as away:
        away.setattr(world.ids, "ids_under", silent)
        world.detector._take(world.events.poll())
    assert not world.detector._renewed
    world.batch("1", "a", 60, at_ms=2_000, shift=9.0)
    assert world.detector._renewed == {("m", ""): 2_000}
    assert world.watch().baseline.mean() > 5


def test_a_folder_promoted_under_the_shipped_versions_name_is_another_model() -> None:
    world = DetectorUnderTest()
    world.events.updates = [
        Encoder.of(MODEL_UPDATES, world.ids).encode_one(replace(as_shipped("moderation-text"), digest="other", decided_ms=2_000))
    ]
    world.batch("1", "a")
    assert world.detector._renewed == {("moderation-text", as_shipped("moderation-text").version): 2_000}


def test_findings_of_a_baseline_that_began_anew_have_ids_of_their_own() -> None:
    world, ids = DetectorUnderTest(), list[str]()
    for rules in (WatchRules(50), WatchRules(60)):
        world.rules = rules
        world.start()
        for i in range(8):
            ids += [one["event_id"] for one in world.batch("1", "a", rules.window_n, at_ms=1 + i, shift=6.0 * (i > 2))]
    assert len(ids) > 8
    assert len(set(ids)) == len(ids)


# --- what a person is told ----------------------------------------------------------------------------------------


def test_a_blind_detector_says_what_it_does_not_see() -> None:
    settings_ = TriggerSettings(drift_baseline_s=60.0)

    def blind(watch: VersionWatch) -> str:
        return "; ".join(row_of(state_of(watch, "drift", "m", "1"), [], settings_)["blind"])

    assert "no baseline yet, so nothing is found: 30 of its first 50 entries came" in blind(filled(WatchRules(50), 30))
    assert "spans 0 s; a finding asks for training from 60 s on" in blind(filled(WatchRules(50, baseline_ms=60_000), 130))
    settled = filled(WatchRules(50), 130)
    assert blind(settled) == ""
    settled.ignored = frozenset({"length"})
    assert "not watched" in blind(settled)
    assert "length" in blind(settled)
    assert "raised from 50 to 90" in blind(again(settled, WatchRules(90)))
    assert "not 20000: of 84 signals more would not fit a record" in blind(filled(WatchRules(20_000), 10, signals=84))


def test_a_model_whose_answers_met_no_label_is_named() -> None:
    state = state_of(filled(WatchRules(50), 60), "drift", "m", "1")
    newer, judged = replace(state, version="2", seen_ms=9), replace(state, model="n")
    found = unlabelled([newer, state, judged, replace(judged, detector="accuracy")])
    assert [(one.model, one.version) for one in found] == [("m", "2")]
    assert "no answer met a label" in dark(newer)["blind"][0]


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_that_is_printed_is_read_as_the_same_time(at_ms: int) -> None:
    assert moment_ms(moment(at_ms)) == at_ms
    assert moment(at_ms).endswith("Z")


def test_a_time_without_a_zone_is_utc_and_what_is_no_time_is_refused() -> None:
    assert moment_ms("2026-05-01T12:00") == moment_ms("2026-05-01T14:00+02:00") == moment_ms("2026-05-01 12:00:00Z")
    for text in ("yesterday", "", "2026-13-01", "0001-01-01T00:00+23:59x"):
        with pytest.raises(BadSettings, match="is no time"):
            moment_ms(text)
