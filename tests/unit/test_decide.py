"""What becomes of findings: one request for many, cooled down, within a budget, each with its reason; and how answers are judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.generated import DriftEvent, TrainingRequest
from schemas.topics import DRIFT_EVENTS, TRAINING_EVENTS, TRAINING_REQUESTS
from streams.broker import Commit
from streams.outcome import Emit
from streams.registry import MemoryRegistry
from streams.rows import Rows
from training_triggers.decide import Decide, Policy, decide, run_key
from training_triggers.detect import judged, of_log, of_outcome

POLICY = Policy(cool_down_ms=60_000, a_day=3)


def event(window: int = 1, model: str = "m", trigger: str = "ks") -> DriftEvent:
    return DriftEvent(
        event_id=f"{trigger}/{model}/1/s/{window}", model=model, version="1", trigger=trigger, signal="s", statistic=0.3, p_value=1e-9,
        effect=0.3, least_effect=0.1, in_a_row=2, window=window, window_n=1_000, baseline_n=1_000, baseline_mean=0.0,
        window_mean=1.0, from_ms=0, to_ms=0,
    )  # fmt: skip


class World:
    def __init__(self) -> None:
        self.ids = MemoryRegistry()
        for topic in (DRIFT_EVENTS, TRAINING_REQUESTS, TRAINING_EVENTS):
            self.ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
        self.requests: list[TrainingRequest] = []
        self.said: list[dict[str, Any]] = []
        self.step = self.new()

    def new(self) -> Decide:
        made = Decide(POLICY, self.ids, "decide-0", lambda: list(self.requests))
        made.restore({(DRIFT_EVENTS.name, 0): Commit(0)})
        return made

    def take(self, *events: DriftEvent, at_ms: int) -> None:
        encoder, n = Encoder("drift-event", DRIFT_EVENTS.subject, self.ids), len(events)
        rows = Rows(
            [(DRIFT_EVENTS.name, 0)] * n, list(range(n)), [b"m"] * n, [encoder.encode_one(one) for one in events], [{}] * n, [at_ms] * n,
            [one.event_id for one in events], [0] * n, [0] * n, [("t", 0, 0)] * n, [0] * n, [0] * n, 0,
        )  # fmt: skip
        (outcome,) = self.step.process(rows)
        assert isinstance(outcome, Emit)
        for records in outcome.records:
            for value in records.values:
                record = read_any(value, self.ids)
                if records.topic == TRAINING_REQUESTS.name:
                    self.requests.append(TrainingRequest.from_dict(record))
                else:
                    self.said.append(record)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_hundred_findings_ask_for_one_run_and_each_says_why(size: int) -> None:
    world = World()
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


def test_after_the_cool_down_it_asks_again_until_the_day_is_full() -> None:
    world = World()
    for number in range(6):
        world.take(event(number), at_ms=1_000_000 + number * 60_000)
    assert [one["kind"] for one in world.said] == ["asked", "asked", "asked", "passed_over", "passed_over", "passed_over"]
    assert "3 is the most" in world.said[-1]["words"]
    world.take(event(9), at_ms=1_000_000 + 24 * 3_600_000 + 1)
    assert len(world.requests) == 4


def test_a_finding_that_comes_again_after_a_restart_asks_for_nothing_new() -> None:
    world = World()
    world.take(event(1), at_ms=1_000_000)
    world.step = world.new()
    world.take(event(1), at_ms=1_000_000 + 10 * 60_000)
    assert (len(world.requests), world.said[-1]["words"]) == (1, "this finding has asked already")


def test_models_do_not_wait_for_each_other() -> None:
    world = World()
    world.take(event(1), event(1, model="other"), at_ms=5)
    assert {one.model for one in world.requests} == {"m", "other"}


@given(st.lists(st.integers(0, 10**7), max_size=12).map(sorted), st.integers(0, 10**7))
def test_two_requests_are_never_nearer_than_the_cool_down(times: list[int], last: int) -> None:
    asked: list[TrainingRequest] = []
    for number, now_ms in enumerate(sorted([*times, last])):
        if decide(event(number), asked, now_ms, POLICY).ask:
            asked.append(TrainingRequest(
                run_key=str(number), model="m", version="1", reason="", causes=(event(number).event_id,), actor="", decided_ms=now_ms
            ))  # fmt: skip
    gaps = np.diff([one.decided_ms for one in asked])
    assert (gaps >= POLICY.cool_down_ms).all()
    assert asked


# --- what detectors read ------------------------------------------------------------------------------------------


def outcome(
    outputs: list[float], truth: dict[str, bool], thresholds: list[float] | None = None, arm: str = "live"
) -> dict[str, Any]:
    return {
        "arm": arm, "model": "m", "version": "1", "predicted_ms": 5, "outputs": np.array(outputs, "<f4").tobytes(), "outputs_dtype": "<f4",
        "output_names": ["a", "b"], "thresholds": b"" if thresholds is None else np.array(thresholds, "<f4").tobytes(), "truth": truth,
    }  # fmt: skip


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
        "request_ids": ["r", "s"], "arm": "live", "model": "m", "version": "1", "started_ms": 7,
        "signals": [{"name": "length", "values": np.array([3, 4], "<f4").tobytes()}], "outputs_dtype": "<f4",
        "output_names": ["spam"], "outputs": np.array([0.1, 0.9], "<f4").tobytes(), "thresholds": np.array([0.5], "<f4").tobytes(),
        "features": [
            {"view": "v", "name": "n", "dtype": "<i8", "values": np.array([5, 0], "<i8").tobytes(), "state": b"\x00\x02"},
            {"view": "v", "name": "t", "dtype": "utf8", "values": b"", "state": b"\x00\x00"},
        ],
        "embeddings": np.array([[1, 2], [3, 4]], "<f2").tobytes(),
    }  # fmt: skip
    found = of_log(record)
    assert found is not None
    assert found[3] == ("embedding 00", "embedding 01", "length", "output spam", "said", "v.n")
    assert found[4][0].tolist() == pytest.approx([1, 2, 3, 0.1, 0, 5])
    assert found[4][1][4] == 1, "the second is said to be spam"
    assert np.isnan(found[4][1][5])
    assert of_log({**record, "arm": "canary"}) is None
