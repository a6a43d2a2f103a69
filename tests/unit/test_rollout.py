"""The rollout controller over topics in memory: what it does with a candidate, and that a crash anywhere changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import avro
from schemas.generated import ModelUpdate, SwapAck, TrainingEvent
from schemas.topics import MODEL_UPDATES, TRAINING_EVENTS
from streams.broker import Commit
from streams.clock import ManualClock
from streams.registry import MemoryRegistry
from training_triggers.evidence import Evidence, Seen, time_ratio
from training_triggers.promotion import shipped
from training_triggers.rollout import BACK, CANARY, Policy, Rollout, breach, canary_of, of_canary
from training_triggers.sequential import Share, difference

MODEL = "moderation-text"
POLICY = Policy(share=0.5, labelled=50, margin=0.05, without_labels=500, most_s=100, watch_s=1_000)
FACTS = {"version": "2", "uri": "file:/v2", "digest": "d2"}


class Crash(BaseException):
    pass


@dataclass
class World:
    """The topics. crash_at: number of the write that is made and then not returned from."""

    clock: ManualClock = field(default_factory=ManualClock)
    written: list[ModelUpdate] = field(default_factory=list)
    events: list[TrainingEvent] = field(default_factory=list)
    acks: list[SwapAck] = field(default_factory=list)
    known: Evidence = field(default_factory=Evidence)
    crash_at: int = -1
    writes: int = 0

    def event(self, kind: str, run_key: str = "r", facts: Mapping[str, str] | None = None, words: str = "") -> None:
        self.events.append(TrainingEvent(run_key=run_key, model=MODEL, kind=kind, words=words, facts=dict(facts or {}), at_ms=0))

    def judged(self, run_key: str = "r", **facts: str) -> None:
        self.event("judged", run_key, FACTS | {"champion": shipped(MODEL).folder.digest} | facts)

    def write(self) -> None:
        self.writes += 1
        if self.writes == self.crash_at:
            raise Crash

    def kinds(self, run_key: str = "r") -> list[str]:
        return [event.kind for event in self.events if event.run_key == run_key]

    def seen(self, version: str, arm: str, labelled: int, right: int, ms: float = 1.0) -> None:
        self.known.sides[MODEL, version, arm] = Seen(labelled, labelled, right, [(8, ms)] * 100)


class Reading:
    """`rollout.Topics` of one controller."""

    def __init__(self, world: World) -> None:
        self._world, self._updates, self._acks = world, 0, 0

    def updates(self) -> Sequence[ModelUpdate]:
        new, self._updates = self._world.written[self._updates :], len(self._world.written)
        return new

    def refusals(self) -> Sequence[SwapAck]:
        new, self._acks = self._world.acks[self._acks :], len(self._world.acks)
        return [ack for ack in new if not ack.accepted]

    def evidence(self, from_ms: int) -> Evidence:
        return self._world.known

    def announce(self, update: ModelUpdate) -> None:
        self._world.written.append(update)
        self._updates += 1
        self._world.write()

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        if kind not in self._world.kinds(run_key):
            self._world.event(kind, run_key, facts, words)
            self._world.write()

    def close(self) -> None: ...


def controller(world: World) -> Rollout:
    ids = MemoryRegistry()
    for topic in (MODEL_UPDATES, TRAINING_EVENTS):
        ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
    made = Rollout(POLICY, ids, lambda: list(world.events), lambda: Reading(world), world.clock)
    made.restore({(TRAINING_EVENTS.name, 0): Commit(0)})
    return made


def look(world: World, one: Rollout | None = None, times: int = 3) -> Rollout:
    one = one or controller(world)
    for _ in range(times):
        world.clock.sleep(2.0)
        one.follow()
    return one


def test_a_judged_candidate_answers_a_share_first_and_takes_over_when_it_is_no_worse() -> None:
    world = World()
    world.judged()
    one = look(world)
    (update,) = world.written
    canary = canary_of(update)
    assert canary is not None
    assert (update.version, canary.version, canary.share, canary.salt) == (shipped(MODEL).folder.version, "2", 0.5, "r")
    assert world.kinds() == ["judged", CANARY]
    world.seen("2", CANARY, 20, 20)
    world.seen(update.version, "live", 200, 100)
    look(world, one)
    assert len(world.written) == 1, "too few labels"
    world.seen("2", CANARY, 60, 58)
    look(world, one)
    assert (world.written[-1].version, world.written[-1].digest, world.written[-1].challengers) == ("2", "d2", ())
    assert world.kinds() == ["judged", CANARY, "promoted"]


@pytest.mark.parametrize("why", ["worse", "slower", "refused", "late"])
def test_a_canary_that_is_not_as_good_is_taken_back(why: str) -> None:
    world = World()
    world.judged()
    one = look(world)
    live = world.written[0].version
    match why:
        case "worse":
            world.seen("2", CANARY, 60, 30)
            world.seen(live, "live", 60, 58)
        case "slower":
            world.seen("2", CANARY, 10, 10, ms=50.0)
            world.seen(live, "live", 10, 10, ms=5.0)
        case "refused":
            world.acks.append(SwapAck(model=MODEL, version="2", worker="w", accepted=False, reason="it failed", arm=CANARY))
        case "late":
            world.clock.sleep(200.0)
    look(world, one)
    last = world.written[-1]
    assert (last.version, canary_of(last), last.reason.startswith(BACK)) == (live, None, True)
    assert world.kinds() == ["judged", CANARY, "rolled_back"]
    look(world, one, 5)
    assert len(world.written) == 2, "it is not tried again"


def test_without_labels_the_gates_verdict_stands_after_enough_answers() -> None:
    world = World()
    world.judged()
    one = look(world)
    world.known.sides[MODEL, "2", CANARY] = Seen(answered=499)
    look(world, one)
    assert len(world.written) == 1
    world.known.sides[MODEL, "2", CANARY] = Seen(answered=500)
    look(world, one)
    assert world.written[-1].version == "2"


def test_what_was_compared_with_another_version_is_refused() -> None:
    world = World()
    world.judged(champion="another")
    look(world)
    assert world.written == []
    assert world.kinds() == ["judged", "refused"]


def test_one_candidate_at_a_time_and_the_second_was_compared_with_what_is_gone() -> None:
    world = World()
    world.judged()
    world.judged("r2", version="3", uri="file:/v3", digest="d3")
    one = look(world)
    assert len(world.written) == 1
    world.seen("2", CANARY, 60, 60)
    world.seen(world.written[0].version, "live", 60, 30)
    look(world, one)
    assert world.kinds() == ["judged", CANARY, "promoted"]
    assert world.kinds("r2") == ["judged", "refused"]


def test_a_version_promoted_by_hand_that_proves_worse_is_brought_back_and_only_once() -> None:
    world = World()
    first = shipped(MODEL).folder
    world.written.append(ModelUpdate(
        model=MODEL, version="bad", uri="file:/bad", digest="db", reason="by hand", actor="me", decided_ms=world.clock.now_ms()
    ))  # fmt: skip
    world.seen("bad", "live", 100, 40)
    world.seen(first.version, "live", 300, 290)
    one = look(world)
    last = world.written[-1]
    assert (last.digest, last.reason.startswith(BACK), world.kinds(f"{MODEL}-db")) == (first.digest, True, ["rolled_back"])
    look(world, one, 5)
    assert len(world.written) == 2
    look(world)
    assert len(world.written) == 2, "nor by a controller that starts anew"


def test_what_took_over_is_not_blamed_for_chance_nor_after_its_time() -> None:
    for labelled, right, later_s in ((100, 92, 0.0), (100, 40, 2_000.0)):
        world = World()
        world.written.append(
            ModelUpdate(model=MODEL, version="new", uri="u", digest="dn", reason="", actor="me", decided_ms=world.clock.now_ms())
        )
        world.clock.sleep(later_s)
        world.seen("new", "live", labelled, right)
        world.seen(shipped(MODEL).folder.version, "live", 300, 290)
        look(world)
        assert len(world.written) == 1


@pytest.mark.parametrize("good", [True, False])
def test_a_crash_after_any_write_ends_in_the_same_state(good: bool) -> None:
    def story(world: World) -> None:
        world.judged()
        for _ in range(10):
            if len(world.written) == 1:
                world.seen("2", CANARY, 60, 60 if good else 20)
                world.seen(world.written[0].version, "live", 60, 40)
            world.clock.sleep(2.0)
            try:
                look(world, times=2)  # a new controller each time
            except Crash:
                continue

    calm = World()
    story(calm)
    for crash_at in itertools.count(1):
        world = World(crash_at=crash_at)
        story(world)
        assert [(one.version, len(one.challengers)) for one in world.written] == [
            (one.version, len(one.challengers)) for one in calm.written
        ]
        assert sorted(world.kinds()) == sorted(calm.kinds())
        if world.writes < crash_at:
            break
    assert crash_at > 3


def test_the_interval_holds_the_truth_at_all_times() -> None:
    """20 looks after every 10 answers, 400 times: without the correction for looking, three times as many would be wrong."""
    numbers, wrong, naive = np.random.default_rng(8), 0, 0
    for _ in range(400):
        new, old = (np.cumsum(numbers.random(400) < 0.8) for _ in range(2))
        looks = range(39, 400, 10)
        wrong += any(
            not low <= 0 <= high
            for low, high in (difference(Share(n + 1, int(new[n])), Share(n + 1, int(old[n]))) for n in looks)
        )
        naive += any(abs(new[n] - old[n]) / (n + 1) > 1.96 * np.sqrt(2 * 0.16 / (n + 1)) for n in looks)
    assert wrong / 400 <= 0.05
    assert naive / 400 > 0.15


@given(st.integers(30, 300), st.integers(30, 300), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=200)
def test_more_answers_narrow_the_interval_and_it_turns_with_its_sides(n: int, m: int, p: float, q: float) -> None:
    new, old = Share(n, int(p * n)), Share(m, int(q * m))
    low, high = difference(new, old)
    assert low <= new.value - old.value <= high
    back = difference(old, new)
    assert back == pytest.approx((-high, -low))
    wider = difference(Share(n * 10, int(p * n) * 10), Share(m * 10, int(q * m) * 10))
    assert wider[1] - wider[0] < high - low


def test_times_are_compared_at_the_same_batch_size() -> None:
    small, large = (
        Seen(batches=[(n, 1.0 + 0.5 * n) for n in (1, 2, 3, 4) * 10]),
        Seen(batches=[(n, 1.0 + 0.5 * n) for n in (16, 32, 48) * 10]),
    )
    assert time_ratio(small, large) == pytest.approx(1.0, rel=0.01)
    slow = Seen(batches=[(n, 4 * (1.0 + 0.5 * n)) for n in (1, 2, 3, 4) * 10])
    assert time_ratio(slow, large) == pytest.approx(4.0, rel=0.01)
    assert "times as long" in breach(slow, large, POLICY)
    assert of_canary(Seen(), Seen(), 1.0, POLICY).kind == "wait"


def test_labels_and_answers_meet_in_either_order_and_the_first_label_counts() -> None:
    evidence = Evidence()
    record = {
        "request_ids": ["a", "b", "c"], "model": MODEL, "version": "1", "arm": "live", "compute_ms": 2.0, "output_names": ["spam"],
        "outputs": np.array([0.9, 0.1, 0.9], "<f4").tobytes(), "outputs_dtype": "<f4", "thresholds": np.array([0.5], "<f4").tobytes(),
    }  # fmt: skip
    evidence.label({"request_id": "a", "truth": {"spam": True}})
    evidence.label({"request_id": "a", "truth": {"spam": False}})
    evidence.answers(record)
    evidence.label({"request_id": "b", "truth": {"spam": True}})
    evidence.label({"request_id": "b", "truth": {"spam": False}})
    evidence.label({"request_id": "c", "truth": {"violence": True}})
    seen = evidence.of(MODEL, "1", "live")
    assert (seen.answered, seen.labelled, seen.right, seen.batches) == (3, 2, 1, [(3, 2.0)])


def test_what_strangers_write_on_the_topics_hinders_no_other_run() -> None:
    world = World()
    world.event("judged", "odd", {"version": "2"})
    facts = {"version": "2", "uri": "file:/x", "digest": "x", "champion": "c"}
    world.events.append(
        TrainingEvent(run_key="elsewhere", model="../../etc", kind="judged", words="", facts=facts, at_ms=2**63 - 1)
    )
    for model in ("nosuch", "../x", "a\0b"):
        world.written.append(
            ModelUpdate(model=model, version="1", uri="file:/x", digest="y", reason="", actor="", decided_ms=2**63 - 1)
        )
    world.judged()
    look(world)
    assert canary_of(world.written[-1]) is not None
