"""What becomes of findings: one request for many, cooled down, within a budget, each with its reason; and how answers are judged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.generated import DriftEvent, TrainingEvent, TrainingRequest
from schemas.topics import DRIFT_EVENTS, TRAINING_EVENTS, TRAINING_REQUESTS
from streams.broker import Commit
from streams.loop.outcome import Emit
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at
from training_triggers.drift.decide import LOST_MS, Decide, RetrainPolicy, RunEnd, decide, run_key, words_of
from training_triggers.drift.detect import judged, of_log, of_outcome
from training_triggers.journal import ENDS

POLICY = RetrainPolicy(cool_down_ms=60_000, runs_per_day=3)


def event(window: int = 1, model: str = "m", trigger: str = "ks") -> DriftEvent:
    return DriftEvent(
        event_id=f"{trigger}/{model}/1/s/{window}",
        model=model,
        version="1",
        trigger=trigger,
        signal="s",
        statistic=0.3,
        p_value=1e-9,
        effect=0.3,
        least_effect=0.1,
        in_a_row=2,
        window=window,
        window_n=1_000,
        baseline_n=1_000,
        baseline_mean=0.0,
        window_mean=1.0,
        from_ms=0,
        to_ms=0,
    )


class Told:
    """Requests and events as they are written, read once each."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes | None]] = []
        self._at = 0

    def poll(self) -> Polled:
        polled = Polled()
        for offset, (topic, value) in enumerate(self.written[self._at :], self._at):
            polled.extend(Polled([(topic, 0)], [offset], [None], [value], [None], [0]))
        self._at = len(self.written)
        return polled

    def read_to_end(self, limit_s: float) -> Polled:
        self._at = 0
        return self.poll()

    def close(self) -> None:
        return


class DecideUnderTest:
    def __init__(self, policy: RetrainPolicy = POLICY) -> None:
        self.ids, self.policy, self.told = MemoryRegistry(), policy, Told()
        for topic in (DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS):
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
        self.requests: list[TrainingRequest] = []
        self.said: list[dict[str, Any]] = []
        self.step = self.new()

    def new(self) -> Decide:
        made = Decide(self.policy, self.ids, "decide-0", lambda: self.told)
        made.restore({(DRIFT_EVENTS.name, 0): Commit(0)})
        return made

    def tell(self, record: TrainingEvent | TrainingRequest) -> None:
        topic = TRAINING_EVENTS if isinstance(record, TrainingEvent) else TRAINING_REQUESTS
        self.told.written.append((topic.name, Encoder(record.RECORD, topic.subject, self.ids).encode_one(record)))

    def end(self, kind: str, at_ms: int) -> None:
        """Of the last run that was asked for."""
        self.tell(TrainingEvent(run_key=self.requests[-1].run_key, model="m", kind=kind, words="", at_ms=at_ms))

    def take(self, *events: DriftEvent, at_ms: int) -> None:
        encoder, n = Encoder.of(DRIFT_EVENTS, self.ids), len(events)
        values, ids = [encoder.encode_one(one) for one in events], [one.event_id for one in events]
        rows = rows_at((DRIFT_EVENTS.name, 0), values, keys=[b"m"] * n, timestamps_ms=[at_ms] * n, request_ids=ids)
        (outcome,) = self.step.process(rows)
        assert isinstance(outcome, Emit)
        for records in outcome.records:
            for value in records.values:
                self.told.written.append((records.topic, value))
                record = read_any(value, self.ids)
                if records.topic == TRAINING_REQUESTS.name:
                    self.requests.append(TrainingRequest.from_dict(record))
                else:
                    self.said.append(record)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hundred_findings_ask_for_one_run_and_each_says_why(size: int) -> None:
    world = DecideUnderTest()
    events = [event(1 + i // 2, trigger=("ks", "psi")[i % 2]) for i in range(100)]
    for at in range(0, 100, size):
        world.take(*events[at : at + size], at_ms=1_000_000 + at)
    (request,) = world.requests
    assert (request.run_key, request.causes, request.model) == (run_key(events[0]), (events[0].event_id,), "m")
    assert "0.300" in request.reason
    assert [one["kind"] for one in world.said] == ["asked"] + ["passed_over"] * 99
    assert {one["run_key"] for one in world.said} == {request.run_key}
    assert [one["cause"] for one in world.said] == [one.event_id for one in events]
    assert all(one["words"] for one in world.said)


def test_one_lasting_drift_asks_for_one_run_until_that_has_ended() -> None:
    world = DecideUnderTest()
    for minute in range(120):
        world.take(event(minute), at_ms=minute * 60_000)
    assert len(world.requests) == 1
    assert "has not ended" in world.said[-1]["words"]


def test_the_pause_counts_from_the_end_of_a_run_and_each_in_vain_doubles_it() -> None:
    world, at, waited = DecideUnderTest(RetrainPolicy(cool_down_ms=60_000, runs_per_day=100)), 1_000_000, []
    for kind in ("refused", "failed", "rolled_back", "promoted", "refused"):
        world.take(event(at), at_ms=at)
        count = len(world.requests)
        world.tell(TrainingEvent(run_key=world.requests[-1].run_key, model="m", kind="judged", words="", at_ms=at + 1))
        world.take(event(at + 2), at_ms=at + 2)
        assert len(world.requests) == count, "judged is no end: who answers is not decided yet"
        end = at = at + 5_000_000
        world.end(kind, end)
        while len(world.requests) == count:
            at += 1_000
            world.take(event(at), at_ms=at)
        waited.append(at - end)
    assert waited == [120_000, 240_000, 480_000, 60_000, 120_000]


def test_a_run_that_a_person_asked_for_holds_back_drift_but_does_not_lengthen_its_pause() -> None:
    world = DecideUnderTest()
    mine = TrainingRequest(run_key="p", model="m", version="1", reason="", causes=(), actor="alice", decided_ms=1_000_000)
    world.tell(mine)
    world.take(event(1), at_ms=1_000_001)
    assert world.requests == []
    world.tell(TrainingEvent(run_key="p", model="m", kind="refused", words="", at_ms=1_100_000))
    world.take(event(2), at_ms=1_159_999)
    assert world.requests == []
    world.take(event(3), at_ms=1_160_000)
    assert len(world.requests) == 1


def test_a_run_whose_end_never_comes_holds_its_model_a_day_and_not_for_ever() -> None:
    world = DecideUnderTest()
    world.take(event(1), at_ms=0)
    world.take(event(2), at_ms=LOST_MS - 1)
    assert len(world.requests) == 1
    world.take(event(3), at_ms=LOST_MS + 120_000)
    assert len(world.requests) == 2


def test_the_day_has_its_most_and_none_is_a_legal_number() -> None:
    world = DecideUnderTest(RetrainPolicy(cool_down_ms=0, runs_per_day=3))
    for number in range(6):
        world.take(event(number), at_ms=1_000_000 + number)
        world.end("refused", 1_000_000 + number)
    assert [one["kind"] for one in world.said] == ["asked", "asked", "asked", "passed_over", "passed_over", "passed_over"]
    assert "at most 3 are allowed" in world.said[-1]["words"]
    world.take(event(9), at_ms=1_000_000 + 24 * 3_600_000 + 1)
    assert len(world.requests) == 4
    off = DecideUnderTest(RetrainPolicy(runs_per_day=0))
    off.take(event(1), at_ms=5)
    assert (off.requests, [one["kind"] for one in off.said]) == ([], ["passed_over"])
    assert "MILLRACE_DRIFT_RUNS_PER_DAY is 0" in off.said[0]["words"]


def test_a_finding_of_a_young_baseline_asks_for_nothing_and_what_is_due_has_none() -> None:
    world = DecideUnderTest(RetrainPolicy(baseline_ms=86_400_000))
    world.take(replace(event(1), baseline_ms=3_600_000), at_ms=5)
    assert (world.requests, world.said[0]["kind"]) == ([], "passed_over")
    assert "spans 3600 s, and from 86400 s on" in world.said[0]["words"]
    world.take(event(2, trigger="volume"), at_ms=6)
    assert len(world.requests) == 1
    other = DecideUnderTest(RetrainPolicy(baseline_ms=86_400_000))
    other.take(replace(event(1), baseline_ms=86_400_000), at_ms=5)
    assert len(other.requests) == 1


def test_a_wish_for_a_new_baseline_is_no_finding() -> None:
    world = DecideUnderTest()
    world.take(event(1, trigger="renew"), at_ms=5)
    assert (world.requests, world.said) == ([], [])


def test_a_mean_is_said_of_finite_numbers_only() -> None:
    gone = replace(event(1), baseline_mean=3.0, window_mean=0.0, window_missing=1.0)
    assert "mean 3 became no finite number" in words_of(gone)
    assert "mean 3 became mean 2 of all but 25.0%" in words_of(replace(gone, window_mean=2.0, window_missing=0.25))


def test_what_is_no_record_on_the_topics_is_passed_over() -> None:
    world = DecideUnderTest()
    world.told.written += [(TRAINING_EVENTS.name, b"junk"), (TRAINING_REQUESTS.name, b"\x00"), (TRAINING_REQUESTS.name, None)]
    world.take(event(1), at_ms=5)
    assert len(world.requests) == 1


def test_a_finding_that_comes_again_after_a_restart_asks_for_nothing_new() -> None:
    world = DecideUnderTest()
    world.take(event(1), at_ms=1_000_000)
    world.step = world.new()
    world.take(event(1), at_ms=1_000_000 + 10 * 60_000)
    assert (len(world.requests), world.said[-1]["words"]) == (1, "this finding has asked already")


def test_models_do_not_wait_for_each_other() -> None:
    world = DecideUnderTest()
    world.take(event(1), event(1, model="other"), at_ms=5)
    assert {one.model for one in world.requests} == {"m", "other"}


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from(sorted(ENDS))), min_size=1, max_size=12))
def test_between_an_end_and_the_next_request_lies_at_least_the_cool_down(steps: list[tuple[int, int, str]]) -> None:
    asked: list[TrainingRequest] = []
    ends: dict[str, RunEnd] = {}
    now_ms = 0
    for number, (wait_ms, took_ms, kind) in enumerate(steps):
        now_ms += wait_ms
        if decide(event(number), asked, ends, now_ms, POLICY).ask:
            assert all(now_ms >= end.at_ms + POLICY.cool_down_ms for end in ends.values())
            asked.append(
                TrainingRequest(
                    run_key=str(number),
                    model="m",
                    version="1",
                    reason="",
                    causes=(event(number).event_id,),
                    actor="decide",
                    decided_ms=now_ms,
                )
            )
            assert not decide(event(99), asked, ends, now_ms + took_ms, POLICY).ask
            now_ms += took_ms
            ends[str(number)] = RunEnd(kind, now_ms)
    assert asked


# --- what detectors read ------------------------------------------------------------------------------------------


def outcome(
    outputs: list[float], truth: dict[str, bool], thresholds: list[float] | None = None, arm: str = "live"
) -> dict[str, Any]:
    return {
        "arm": arm,
        "model": "m",
        "version": "1",
        "predicted_ms": 5,
        "outputs": np.array(outputs, "<f4").tobytes(),
        "outputs_dtype": "<f4",
        "output_names": ["a", "b"],
        "thresholds": b"" if thresholds is None else np.array(thresholds, "<f4").tobytes(),
        "truth": truth,
    }


def test_answers_are_judged_by_their_thresholds_or_by_the_largest() -> None:
    assert judged(outcome([0.4, 0.9], {"a": False, "b": True}, [0.5, 0.5])) is True
    assert judged(outcome([0.6, 0.9], {"a": False, "b": True}, [0.5, 0.5])) is False
    assert judged(outcome([0.6, 0.9], {"b": True}, [0.5, 0.5])) is True, "nothing is said of a"
    assert judged(outcome([0.6, 0.9], {"z": True}, [0.5, 0.5])) is None
    assert judged(outcome([0.2, 0.8], {"b": True})) is True
    assert judged(outcome([0.8, 0.2], {"b": True})) is False
    assert judged(outcome([0.8, 0.2], {"z": True})) is None
    assert judged(outcome([0.8, 0.2], {"b": False})) is True, (
        "that it is no b is all that is known, and it was not said to be one"
    )
    assert of_outcome(outcome([0.8, 0.2], {"b": True}, arm="shadow")) is None


def test_signals_outputs_embedding_and_numeric_features_are_columns_and_unknown_values_are_missing() -> None:
    record = {
        "request_ids": ["r", "s"],
        "arm": "live",
        "model": "m",
        "version": "1",
        "started_ms": 7,
        "signals": [{"name": "length", "values": np.array([3, 4], "<f4").tobytes()}],
        "outputs_dtype": "<f4",
        "output_names": ["spam"],
        "outputs": np.array([0.1, 0.9], "<f4").tobytes(),
        "thresholds": np.array([0.5], "<f4").tobytes(),
        "features": [
            {"view": "v", "name": "n", "dtype": "<i8", "values": np.array([5, 0], "<i8").tobytes(), "state": b"\x00\x02"},
            {"view": "v", "name": "t", "dtype": "utf8", "values": b"", "state": b"\x00\x00"},
        ],
        "embeddings": np.array([[1, 2], [3, 4]], "<f2").tobytes(),
    }
    found = of_log(record)
    assert found is not None
    assert found[3] == ("embedding 00", "embedding 01", "length", "output spam", "said", "v.n")
    assert found[4][0].tolist() == pytest.approx([1, 2, 3, 0.1, 0, 5])
    assert found[4][1][4] == 1, "the second is said to be spam"
    assert np.isnan(found[4][1][5])
    assert of_log({**record, "arm": "canary"}) is None
