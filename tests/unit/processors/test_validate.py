"""Events that hold go on once; all others go aside, each with its cause; a batch that fails half-way leaves nothing behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.features.seen import READ_BACK, Seen
from processors.features.validate import LONGEST_REPLAY_MS, Validation, impossible
from schemas import avro
from schemas.codec import Encoder, read_any
from schemas.durations import DAY_MS, HOUR_MS
from schemas.encoding import Constant
from schemas.errors import BrokerUnavailable
from schemas.features import LATENESS_MS
from schemas.generated import UserEvent
from schemas.topics import LATE_EVENTS, USER_EVENTS, USER_EVENTS_VALID
from streams import headers as h
from streams.broker import Commit
from streams.loop.outcome import Emit, Outcome, Reject
from streams.metrics import Metrics
from streams.rows import OutRecords, Rows
from streams.schema_registry import MemoryRegistry
from tests.support.rows import rows_at

NOW_MS = 1_795_000_000_000
VIEW = UserEvent(event_id="e-1", user_id="u", kind="view", item_id="i", event_ms=NOW_MS - 1000)


class ValidationUnderTest:
    """A validation and its own output, as its partition holds it."""

    def __init__(self, window_ms: int = 60_000, in_flight: int = 0) -> None:
        self.ids = MemoryRegistry()
        for topic in (USER_EVENTS, USER_EVENTS_VALID, LATE_EVENTS):
            self.ids.register(topic.subject, avro.schema("user-event"))
        self.encoder = Encoder.of(USER_EVENTS, self.ids)
        self.output: list[tuple[int, bytes, int]] = []
        self.next_offset, self.asked = 0, list[Mapping[int, int]]()
        self.broker_is_away = False
        self.metrics = Metrics()
        self.step = Validation(self.ids, "validate-0", self.metrics, Seen(window_ms, in_flight=in_flight), self.read_back)

    def read_back(self, positions: Mapping[int, int], window_ms: int) -> Iterator[tuple[int, list[bytes | None], list[int]]]:
        if self.broker_is_away:
            raise BrokerUnavailable("away")
        self.asked.append(positions)
        for partition in positions:
            mine = [(value, at_ms) for p, value, at_ms in self.output if p == partition]
            if mine:
                yield partition, [value for value, _ in mine], [at_ms for _, at_ms in mine]

    def rows(
        self, *events: UserEvent | bytes, at_ms: int = NOW_MS, headers: dict[str, bytes] | None = None, first: int | None = None
    ) -> Rows:
        """first: offset of the first; where none is given, behind what came before."""
        made = Rows.empty()
        first = self.next_offset if first is None else first
        self.next_offset = first + len(events)
        for i, event in enumerate(events, first):
            value = (
                event
                if isinstance(event, bytes)
                else self.encoder.encode({k: Constant(v) for k, v in asdict(event).items()}, 1)[0]
            )
            key = b"u" if isinstance(event, bytes) else event.user_id.encode()
            made.extend(rows_at((USER_EVENTS.name, 2), [value], i, keys=[key], headers=[headers or {}], timestamps_ms=[at_ms]))
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
    world = ValidationUnderTest()
    (outcome,) = world.run(VIEW)
    assert isinstance(outcome, Emit)
    (out,) = outcome.records
    assert (out.topic, out.keys, out.partitions) == (USER_EVENTS_VALID.name, [b"u"], [2])
    assert UserEvent.from_dict(read_any(out.values[0], world.ids)) == VIEW
    assert dict(out.headers[0])[h.CE_ID] == b"r0"


@pytest.mark.parametrize(
    ("event", "word"),
    [
        (replace(VIEW, kind="teleport"), "teleport"),
        (replace(VIEW, event_id=""), "event_id has 0"),
        (replace(VIEW, event_id="x" * 201), "201"),
        (replace(VIEW, item_id=None), "needs an item_id"),
        (replace(VIEW, quantity=0), "quantity is 0"),
        (replace(VIEW, kind="purchase", amount_cents=-1), "amount is -1"),
        (replace(VIEW, kind="purchase"), "needs an amount"),
        (replace(VIEW, kind="rating"), "needs stars"),
        (replace(VIEW, rating=3), "must not have stars"),
        (replace(VIEW, kind="rating", rating=6), "6 stars"),
        (replace(VIEW, event_ms=NOW_MS + HOUR_MS + 1), "after it reached the broker"),
        (replace(VIEW, event_ms=0), "0 ms of the epoch"),
    ],
)
def test_what_cannot_be_is_said(event: UserEvent, word: str) -> None:
    assert word in (impossible(event, b"u", NOW_MS) or "")
    assert causes(ValidationUnderTest().run(event)) == ["impossible"]


def test_an_event_under_anothers_key_is_refused() -> None:
    assert "not the user's id" in (impossible(VIEW, b"somebody", NOW_MS) or "")
    assert impossible(VIEW, b"u", NOW_MS) is None
    assert impossible(replace(VIEW, event_ms=NOW_MS + HOUR_MS), b"u", NOW_MS) is None


def test_bytes_that_do_not_decode_go_aside_and_their_neighbours_on() -> None:
    world = ValidationUnderTest()
    outcomes = world.run(VIEW, b"\x00\x00", replace(VIEW, event_id="e-2"))
    assert causes(outcomes) == ["undecodable"]
    assert world.passed(outcomes) == ["e-1", "e-2"]


def test_repeats_go_aside_within_the_window_and_on_after_it() -> None:
    world = ValidationUnderTest(window_ms=10_000)
    assert causes(world.run(VIEW, VIEW)) == ["repeated"]
    assert causes(world.run(VIEW, at_ms=NOW_MS + 9_999)) == ["repeated"]
    assert world.passed(world.run(VIEW, at_ms=NOW_MS + 10_000)) == ["e-1"]


def test_late_events_are_kept_apart_and_counted() -> None:
    world = ValidationUnderTest()
    old = replace(VIEW, event_ms=NOW_MS - LATENESS_MS - 1)
    outcomes = world.run(old, replace(VIEW, event_id="e-2", event_ms=NOW_MS - LATENESS_MS))
    assert world.passed(outcomes, LATE_EVENTS.name) == ["e-1"]
    assert world.passed(outcomes) == ["e-2"]
    assert world.metrics.total("late_events") == 1


def test_a_replayed_event_is_judged_by_its_own_clock() -> None:
    world = ValidationUnderTest()
    old = replace(VIEW, event_ms=NOW_MS - 200 * DAY_MS)
    behind = {h.REPLAY_OFFSET_MS: str(200 * DAY_MS - HOUR_MS).encode()}
    assert world.passed(world.run(old, headers=behind)) == ["e-1"]
    ahead = replace(old, event_id="e-2", event_ms=old.event_ms + 3 * HOUR_MS)
    assert causes(world.run(ahead, headers=behind)) == ["impossible"]


def test_only_milliseconds_of_a_bounded_past_are_believed_of_a_replay() -> None:
    """Anybody may write the header: it never moves an event ahead of the broker's clock, and never further back than is allowed."""
    for said in (
        b"-1",
        b"-9223372036854775808",
        str(LONGEST_REPLAY_MS + 1).encode(),
        b"9" * 30,
        b"",
        b"1e3",
        b"1_0",
        b"\xd9\xa1",
        b" 5",
    ):
        world = ValidationUnderTest()
        outcomes = world.run(VIEW, replace(VIEW, event_id="e-2", event_ms=2**63 - 1), headers={h.REPLAY_OFFSET_MS: said})
        assert causes(outcomes) == ["impossible", "impossible"], said
    assert ValidationUnderTest().passed(ValidationUnderTest().run(VIEW, headers={h.REPLAY_OFFSET_MS: b"0"})) == ["e-1"]
    whole = {h.REPLAY_OFFSET_MS: str(LONGEST_REPLAY_MS).encode()}
    assert ValidationUnderTest().passed(
        ValidationUnderTest().run(replace(VIEW, event_ms=NOW_MS - LONGEST_REPLAY_MS), headers=whole)
    ) == ["e-1"]


INT64 = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([-(2**63), -1, 0, 1, 2**62, 2**63 - 1]),
    st.integers(NOW_MS - 400 * DAY_MS, NOW_MS + 2 * DAY_MS),
)
# An event's time, and the header of its replay: any, near now, or replayed from near its time.
TIMES = st.one_of(
    st.tuples(INT64, st.one_of(st.none(), INT64.map(lambda n: str(n).encode()), st.binary(max_size=20))),
    st.tuples(st.integers(NOW_MS - 2 * LATENESS_MS, NOW_MS + 2 * HOUR_MS), st.none()),
    st.tuples(st.integers(0, 2 * LONGEST_REPLAY_MS), st.integers(-2 * LATENESS_MS, 2 * HOUR_MS)).map(
        lambda drawn: (NOW_MS - drawn[0] + drawn[1], str(drawn[0]).encode())
    ),
)


@given(TIMES)
@settings(max_examples=300, deadline=None)
def test_whatever_an_event_says_what_passes_lies_in_the_past_that_is_allowed(times: tuple[int, bytes | None]) -> None:
    event_ms, said = times
    world = ValidationUnderTest()
    outcomes = world.run(replace(VIEW, event_ms=event_ms), headers=None if said is None else {h.REPLAY_OFFSET_MS: said})
    assert len(outcomes) == 1
    if world.passed(outcomes):
        assert max(1, NOW_MS - LATENESS_MS - LONGEST_REPLAY_MS) <= event_ms <= NOW_MS + HOUR_MS
        assert said is not None or event_ms >= NOW_MS - LATENESS_MS


def test_a_replay_says_further_on_how_far_its_clock_is_behind() -> None:
    """The archive needs it, to tell when the event would have come."""
    world = ValidationUnderTest()
    behind = {h.REPLAY_OFFSET_MS: str(DAY_MS).encode()}
    (out,) = world.out(world.run(replace(VIEW, event_ms=NOW_MS - DAY_MS), headers=behind), USER_EVENTS_VALID.name)
    assert dict(out.headers[0])[h.REPLAY_OFFSET_MS] == str(DAY_MS).encode()


def test_what_an_abort_leaves_behind_is_no_repeat_of_itself_and_nothing_is_read_again() -> None:
    world = ValidationUnderTest()
    world.step.restore({(USER_EVENTS.name, 2): Commit(0)})
    world.run(VIEW, first=0)
    world.run(replace(VIEW, event_id="e-2"), first=1, commit=False)  # its transaction is aborted
    world.step.restore({(USER_EVENTS.name, 2): Commit(1)})
    assert world.passed(world.run(replace(VIEW, event_id="e-2"), first=1)) == ["e-2"]
    assert causes(world.run(VIEW, replace(VIEW, event_id="e-2"))) == ["repeated", "repeated"]
    assert world.asked == [{2: 0}], "the window is read once for each time that the partition comes"
    world.step.forget([(USER_EVENTS.name, 2)])
    world.step.restore({(USER_EVENTS.name, 2): Commit(4)})
    assert world.asked == [{2: 0}, {2: 4}]
    assert causes(world.run(VIEW)) == ["repeated"], "read back"


def test_a_window_that_was_read_in_part_is_read_again() -> None:
    world = ValidationUnderTest()
    world.run(VIEW)
    world.step.forget([(USER_EVENTS.name, 2)])
    world.broker_is_away = True
    with pytest.raises(BrokerUnavailable):
        world.step.restore({(USER_EVENTS.name, 2): Commit(1)})
    world.broker_is_away = False
    world.step.restore({(USER_EVENTS.name, 2): Commit(1)})
    assert causes(world.run(VIEW)) == ["repeated"]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 400)), min_size=1, max_size=30), st.randoms(use_true_random=False)
)
@settings(max_examples=150, deadline=None)
def test_whatever_is_aborted_each_event_of_a_window_passes_once(steps: list[tuple[str, int]], random: Random) -> None:
    """Batches of any size, aborts that go back to any committed place: what is committed is what a pass one by one gives."""
    world, at_ms, everything = ValidationUnderTest(window_ms=1_000), NOW_MS, Rows.empty()
    for offset, (event_id, gap_ms) in enumerate(steps):
        at_ms += gap_ms
        everything.extend(world.rows(replace(VIEW, event_id=event_id), at_ms=at_ms, first=offset))

    def passed(step: Validation, offsets: range) -> list[int]:
        return [o for one in step.process(everything.take(offsets)) if isinstance(one, Emit) for o in one.rows.offsets]

    expected = [o for offset in range(len(steps)) for o in passed(world.step, range(offset, offset + 1))]
    other, committed, done = ValidationUnderTest(1_000, in_flight=30), list[int](), 0
    while done < len(steps):
        found, to = list[int](), done
        for _ in range(random.randint(1, 3)):
            end = min(len(steps), to + random.randint(1, 6))
            found, to = [*found, *passed(other.step, range(to, end))], end
        if random.random() < 0.5:
            committed, done = [*committed, *found], to
    assert committed == expected


def test_the_window_is_bounded_by_time_and_number() -> None:
    seen = Seen(1_000, max_ids=3)
    seen.add(0, [(f"a{i}", 100 + i, i) for i in range(5)])
    assert len(seen) == 3
    assert not seen.has(0, "a1", 105, 9)
    assert seen.has(0, "a4", 105, 9)
    assert not seen.has(0, "a4", 105, 4), "itself"
    assert not seen.has(1, "a4", 105, 9)
    seen.add(0, [("b", 5_000, 10)])
    assert len(seen) == 1


def test_an_event_in_flight_does_not_push_out_an_earlier_one_of_its_id() -> None:
    seen = Seen(1_000, in_flight=10)
    seen.add(0, [("a", 100, 0)])
    seen.add(0, [("a", 2_100, 2)])  # aborted; offset 1 is read again
    assert seen.has(0, "a", 1_000, 1)
    seen.add(0, [("a", 2_100, 2)])
    assert seen.has(0, "a", 1_000, 1) and seen.has(0, "a", 2_100, 3), "both are held"


def test_what_may_be_read_again_keeps_the_window_before_it() -> None:
    """Ten events in flight over hours: an abort goes back to the first, whose repeats lie a window before it."""
    seen = Seen(1_000, in_flight=10)
    seen.add(0, [("old", 500, READ_BACK)])
    seen.add(0, [(f"a{i}", 1_000 + i * 60_000, i) for i in range(9)])
    assert seen.has(0, "old", 1_000, 0)
    seen.add(0, [(f"b{i}", 10**7 + i, 100 + i) for i in range(30)])
    assert not seen.has(0, "old", 1_000, 0)
