"""Events that hold go on once; all others go aside, each with its cause; a batch that fails half-way leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest

from processors.validate import Seen, Validation, impossible
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.encoding import Constant
from schemas.features import DAY_MS, HOUR_MS, LATENESS_MS
from schemas.generated import UserEvent
from schemas.topics import LATE_EVENTS, USER_EVENTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.metrics import Metrics
from streams.outcome import Emit, Outcome, Reject
from streams.registry import MemoryRegistry
from streams.rows import OutRecords, Rows

NOW_MS = 1_795_000_000_000
VIEW = UserEvent(event_id="e-1", user_id="u", kind="view", item_id="i", event_ms=NOW_MS - 1000)


class World:
    """A validation and its own output, as its partition holds it."""

    def __init__(self, window_ms: int = 60_000) -> None:
        self.ids = MemoryRegistry()
        for topic in (USER_EVENTS, USER_EVENTS_VALID, LATE_EVENTS):
            self.ids.register(topic.subject, avro.schema("user-event"))
        self.encoder = Encoder("user-event", USER_EVENTS.subject, self.ids)
        self.output: list[tuple[int, bytes, int]] = []
        self.metrics = Metrics()
        self.step = Validation(self.ids, "validate-0", self.metrics, Seen(window_ms), self.read_back)

    def read_back(self, partitions: Sequence[int], window_ms: int) -> Iterator[tuple[int, list[bytes | None], list[int]]]:
        for partition in partitions:
            mine = [(value, at_ms) for p, value, at_ms in self.output if p == partition]
            if mine:
                yield partition, [value for value, _ in mine], [at_ms for _, at_ms in mine]

    def rows(self, *events: UserEvent | bytes, at_ms: int = NOW_MS, headers: dict[str, bytes] | None = None) -> Rows:
        made = Rows.empty()
        for i, event in enumerate(events):
            value = (
                event
                if isinstance(event, bytes)
                else self.encoder.encode({k: Constant(v) for k, v in asdict(event).items()}, 1)[0]
            )
            key = b"u" if isinstance(event, bytes) else event.user_id.encode()
            made.extend(Rows(
                [(USER_EVENTS.name, 2)], [i], [key], [value], [headers or {}], [at_ms], [f"r-{i}"], [0], [4],
                [(USER_EVENTS.name, 2, i)], [0], [0], 0,
            ))  # fmt: skip
        return made

    def run(self, *events: UserEvent | bytes, commit: bool = True, **given: Any) -> list[Outcome]:
        outcomes = self.step.process(self.rows(*events, **given))
        if commit:
            for out in self.out(outcomes, USER_EVENTS_VALID.name):
                self.output += [
                    (p, v or b"", given.get("at_ms", NOW_MS)) for p, v in zip(out.partitions or (), out.values, strict=True)
                ]
        return outcomes

    @staticmethod
    def out(outcomes: list[Outcome], topic: str) -> list[OutRecords]:
        return [out for one in outcomes if isinstance(one, Emit) for out in one.records if out.topic == topic]

    def passed(self, outcomes: list[Outcome], topic: str = USER_EVENTS_VALID.name) -> list[str]:
        return [read_any(value, self.ids)["event_id"] for out in self.out(outcomes, topic) for value in out.values]


def causes(outcomes: list[Outcome]) -> list[str]:
    return [one.error.code for one in outcomes if isinstance(one, Reject)]


def test_a_good_event_goes_on_unchanged_to_its_own_partition() -> None:
    world = World()
    (outcome,) = world.run(VIEW)
    assert isinstance(outcome, Emit)
    (out,) = outcome.records
    assert (out.topic, out.keys, out.partitions) == (USER_EVENTS_VALID.name, [b"u"], [2])
    assert UserEvent.from_dict(read_any(out.values[0], world.ids)) == VIEW
    assert dict(out.headers[0])[h.CE_ID] == b"r-0"


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (replace(VIEW, kind="teleport"), "teleport"),
        (replace(VIEW, event_id=""), "event_id has 0"),
        (replace(VIEW, event_id="x" * 201), "201"),
        (replace(VIEW, item_id=None), "names no item"),
        (replace(VIEW, quantity=0), "quantity of 0"),
        (replace(VIEW, kind="purchase", amount_cents=-1), "amount of -1"),
        (replace(VIEW, kind="purchase"), "without an amount"),
        (replace(VIEW, kind="rating"), "without stars"),
        (replace(VIEW, rating=3), "with stars"),
        (replace(VIEW, kind="rating", rating=6), "6 stars"),
        (replace(VIEW, event_ms=NOW_MS + HOUR_MS + 1), "after the broker took it"),
        (replace(VIEW, event_ms=0), "0 ms of the epoch"),
    ],
)
def test_what_cannot_be_is_said(event: UserEvent, word: str) -> None:
    assert word in (impossible(event, b"u", NOW_MS) or "")
    assert causes(World().run(event)) == ["impossible"]


def test_an_event_under_anothers_key_is_refused() -> None:
    assert "not the user's id" in (impossible(VIEW, b"somebody", NOW_MS) or "")
    assert impossible(VIEW, b"u", NOW_MS) is None
    assert impossible(replace(VIEW, event_ms=NOW_MS + HOUR_MS), b"u", NOW_MS) is None


def test_bytes_that_do_not_decode_go_aside_and_their_neighbours_on() -> None:
    world = World()
    outcomes = world.run(VIEW, b"\x00\x00", replace(VIEW, event_id="e-2"))
    assert causes(outcomes) == ["undecodable"]
    assert world.passed(outcomes) == ["e-1", "e-2"]


def test_repeats_go_aside_within_the_window_and_on_after_it() -> None:
    world = World(window_ms=10_000)
    assert causes(world.run(VIEW, VIEW)) == ["repeated"]
    assert causes(world.run(VIEW, at_ms=NOW_MS + 9_999)) == ["repeated"]
    assert world.passed(world.run(VIEW, at_ms=NOW_MS + 10_000)) == ["e-1"]


def test_late_events_are_kept_apart_and_counted() -> None:
    world = World()
    old = replace(VIEW, event_ms=NOW_MS - LATENESS_MS - 1)
    outcomes = world.run(old, replace(VIEW, event_id="e-2", event_ms=NOW_MS - LATENESS_MS))
    assert world.passed(outcomes, LATE_EVENTS.name) == ["e-1"]
    assert world.passed(outcomes) == ["e-2"]
    assert world.metrics.total("late_events") == 1


def test_a_replayed_event_is_judged_by_its_own_clock() -> None:
    world = World()
    old = replace(VIEW, event_ms=NOW_MS - 200 * DAY_MS)
    behind = {h.REPLAY_OFFSET_MS: str(200 * DAY_MS - HOUR_MS).encode()}
    assert world.passed(world.run(old, headers=behind)) == ["e-1"]
    ahead = replace(old, event_id="e-2", event_ms=old.event_ms + 3 * HOUR_MS)
    assert causes(world.run(ahead, headers=behind)) == ["impossible"]


def test_after_an_abort_only_what_was_committed_counts_as_seen() -> None:
    world = World()
    world.run(VIEW)
    world.run(replace(VIEW, event_id="e-2"), commit=False)  # its transaction is aborted
    world.step.restore({(USER_EVENTS.name, 2): Commit(0)})
    assert causes(world.run(VIEW)) == ["repeated"]
    assert world.passed(world.run(replace(VIEW, event_id="e-2"))) == ["e-2"]


def test_a_batch_that_fails_leaves_no_id_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    with monkeypatch.context() as patch:
        patch.setattr(world.step, "_records", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            world.step.process(world.rows(VIEW))
    assert world.passed(world.run(VIEW)) == ["e-1"]


def test_the_window_is_bounded_by_time_and_number() -> None:
    seen = Seen(1_000, max_ids=3)
    seen.add(0, [(f"a{i}", 100 + i) for i in range(5)])
    assert len(seen) == 3
    assert not seen.has(0, "a1", 105)
    assert seen.has(0, "a4", 105)
    assert not seen.has(1, "a4", 105)
    seen.add(0, [("b", 5_000)])
    assert len(seen) == 1
