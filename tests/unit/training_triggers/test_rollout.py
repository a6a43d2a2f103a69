"""The rollout controller over topics in memory: what it does with a candidate, and that a crash anywhere changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from schemas import avro
from schemas.errors import ModelRefused
from schemas.generated import Challenger, ModelUpdate, SwapAck, TrainingEvent
from schemas.topics import MODEL_UPDATES, TRAINING_EVENTS
from schemas.vocabulary import Arm, Purpose, UpdateKind
from streams.broker import Commit
from streams.clock import ManualClock
from streams.schema_registry import MemoryRegistry
from tests.unit.training_triggers.test_evidence import MODEL, record
from training_triggers.recorded.confidence_sequence import PairedAnswers, paired_difference
from training_triggers.recorded.evidence import ArmEvidence, Evidence, time_ratio
from training_triggers.rollout.controller import BACK, Rollout, canary_of
from training_triggers.rollout.decisions import CanaryAction, RolloutPolicy, breach, of_canary, paired_breach
from training_triggers.versions import promotion, update_history
from training_triggers.versions.promotion import Source, before, shipped

POLICY = RolloutPolicy(share=0.5, labelled=50, margin=0.05, without_labels=500, max_s=100, watch_s=1_000)
FACTS = {"version": "2", "uri": "file:/v2", "digest": "d2"}


class Crash(BaseException):
    pass


@dataclass
class RolloutTopics:
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

    def seen(self, digest: str, arm: str, labelled: int, right: int, ms: float = 1.0) -> None:
        self.known.sides[MODEL, digest, arm] = ArmEvidence(labelled, labelled, right, [(8, ms)] * 100)

    def answer(self, digest: str, arm: str, right: Sequence[bool], first: int = 0) -> None:
        """Requests from number `first` on, each labelled."""
        ids = [f"r{first + i}" for i in range(len(right))]
        self.known.answers(record(ids, [0.9 if one else 0.1 for one in right], digest=digest, arm=arm))
        for one in ids:
            self.known.label({"request_id": one, "truth": {"spam": True}})

    def by_hand(self, digest: str, kind: str = UpdateKind.PROMOTION, *challengers: Challenger) -> ModelUpdate:
        update = ModelUpdate(
            model=MODEL, version=digest, uri=f"file:/{digest}", digest=digest, reason="by hand", actor="me", kind=kind,
            decided_ms=self.clock.now_ms(), challengers=challengers,
        )  # fmt: skip
        self.written.append(update)
        return update


class Reading:
    """`rollout.Topics` of one controller."""

    def __init__(self, world: RolloutTopics) -> None:
        self._world, self._updates, self._acks = world, 0, 0

    def updates(self) -> Sequence[ModelUpdate]:
        new, self._updates = self._world.written[self._updates :], len(self._world.written)
        return new

    def refusals(self) -> Sequence[SwapAck]:
        new, self._acks = self._world.acks[self._acks :], len(self._world.acks)
        return [ack for ack in new if not ack.accepted]

    def evidence(self, from_ms: int) -> Evidence:
        return self._world.known

    def announce(self, update: ModelUpdate, after: ModelUpdate | None) -> bool:
        mine = update_history.of(update.model, self._world.written)
        if (mine[-1] if mine else None) != after:
            return False
        self._world.written.append(update)
        self._world.write()
        return True

    def tell(self, run_key: str, model: str, kind: str, words: str, facts: Mapping[str, str]) -> None:
        if kind not in self._world.kinds(run_key):
            self._world.event(kind, run_key, facts, words)
            self._world.write()

    def close_unused(self) -> None: ...

    def close(self) -> None: ...


def controller(world: RolloutTopics) -> Rollout:
    ids = MemoryRegistry()
    for topic in (MODEL_UPDATES, TRAINING_EVENTS):
        ids.register(topic.subject, avro.schema(topic.record.RECORD))  # type: ignore[union-attr]
    made = Rollout(POLICY, ids, lambda: list(world.events), lambda: Reading(world), world.clock)
    made.restore({(TRAINING_EVENTS.name, 0): Commit(0)})
    return made


def look(world: RolloutTopics, one: Rollout | None = None, times: int = 3) -> Rollout:
    one = one or controller(world)
    for _ in range(times):
        world.clock.sleep(2.0)
        one.tick()
    return one


LIVE_DIGEST = shipped(MODEL).folder.digest


def test_a_judged_candidate_answers_a_share_first_and_takes_over_when_it_is_no_worse() -> None:
    world = RolloutTopics()
    world.judged()
    one = look(world)
    (update,) = world.written
    canary = canary_of(update)
    assert canary is not None
    assert (update.version, canary.version, canary.share, canary.salt) == (shipped(MODEL).folder.version, "2", 0.5, "r")
    assert (update.kind, canary.purpose) == (UpdateKind.CHALLENGE, Purpose.RUN)
    assert world.kinds() == ["judged", Arm.CANARY]
    world.seen("d2", Arm.CANARY, 20, 20)
    world.seen(LIVE_DIGEST, "live", 200, 100)
    look(world, one)
    assert len(world.written) == 1, "too few labels"
    world.seen("d2", Arm.CANARY, 60, 58)
    look(world, one)
    last = world.written[-1]
    assert (last.version, last.digest, last.kind, canary_of(last)) == ("2", "d2", UpdateKind.PROMOTION, None)
    (watched,) = last.challengers
    assert (watched.arm, watched.digest, watched.purpose) == (Arm.SHADOW, LIVE_DIGEST, Purpose.WATCH), (
        "the one before is asked beside it"
    )
    assert world.kinds() == ["judged", Arm.CANARY, "promoted"]
    look(world, one)
    assert len(world.written) == 2
    world.clock.sleep(POLICY.watch_s + 1)
    look(world, one)
    assert (world.written[-1].digest, world.written[-1].challengers) == ("d2", ()), "until the watch is over"


@pytest.mark.parametrize("why", ["worse", "slower", "refused", "late"])
def test_a_canary_that_is_not_as_good_is_taken_back(why: str) -> None:
    world = RolloutTopics()
    world.judged()
    one = look(world)
    live = world.written[0].version
    match why:
        case "worse":
            world.seen("d2", Arm.CANARY, 60, 30)
            world.seen(LIVE_DIGEST, "live", 60, 58)
        case "slower":
            world.seen("d2", Arm.CANARY, 10, 10, ms=50.0)
            world.seen(LIVE_DIGEST, "live", 10, 10, ms=5.0)
        case "refused":
            world.acks.append(SwapAck(model=MODEL, version="2", worker="w", accepted=False, reason="it failed", arm=Arm.CANARY))
        case "late":
            world.clock.sleep(200.0)
    look(world, one)
    last = world.written[-1]
    assert (last.version, canary_of(last), last.reason.startswith(BACK)) == (live, None, True)
    assert world.kinds() == ["judged", Arm.CANARY, "rolled_back"]
    look(world, one, 5)
    assert len(world.written) == 2, "it is not tried again"


def test_without_labels_the_gates_verdict_stands_after_enough_answers() -> None:
    world = RolloutTopics()
    world.judged()
    one = look(world)
    world.known.sides[MODEL, "d2", Arm.CANARY] = ArmEvidence(answered=499)
    look(world, one)
    assert len(world.written) == 1
    world.known.sides[MODEL, "d2", Arm.CANARY] = ArmEvidence(answered=500)
    look(world, one)
    assert world.written[-1].version == "2"


def test_what_was_compared_with_another_version_is_refused() -> None:
    world = RolloutTopics()
    world.judged(champion="another")
    look(world)
    assert world.written == []
    assert world.kinds() == ["judged", "refused"]


def test_one_candidate_at_a_time_and_the_second_was_compared_with_what_is_gone() -> None:
    world = RolloutTopics()
    world.judged()
    world.judged("r2", version="3", uri="file:/v3", digest="d3")
    one = look(world)
    assert len(world.written) == 1
    world.seen("d2", Arm.CANARY, 60, 60)
    world.seen(LIVE_DIGEST, "live", 60, 30)
    look(world, one)
    assert world.kinds() == ["judged", Arm.CANARY, "promoted"]
    assert world.kinds("r2") == ["judged", "refused"]


def test_a_version_promoted_by_hand_that_proves_worse_is_brought_back_and_only_once() -> None:
    world = RolloutTopics()
    world.by_hand("db")
    one = look(world)
    (watched,) = world.written[-1].challengers
    assert (world.written[-1].digest, watched.digest, watched.purpose) == ("db", LIVE_DIGEST, Purpose.WATCH)
    world.answer("db", "live", [i % 2 == 0 for i in range(100)])
    world.answer(LIVE_DIGEST, Arm.SHADOW, [True] * 100)
    look(world, one)
    last = world.written[-1]
    assert (last.digest, last.kind, last.reason.startswith(BACK)) == (LIVE_DIGEST, UpdateKind.ROLLBACK, True)
    assert (last.challengers, world.kinds(f"{MODEL}-db")) == ((), ["rolled_back"])
    look(world, one, 5)
    assert len(world.written) == 3
    look(world)
    assert len(world.written) == 3, "nor by a controller that starts anew"


def test_a_version_of_the_shipped_ones_name_is_another_version() -> None:
    world = RolloutTopics()
    world.written.append(ModelUpdate(
        model=MODEL, version=shipped(MODEL).folder.version, uri="file:/mine", digest="mine", reason="", actor="me",
        kind=UpdateKind.PROMOTION, decided_ms=world.clock.now_ms(),
    ))  # fmt: skip
    one = look(world)
    world.answer("mine", "live", [False] * 60)
    world.answer(LIVE_DIGEST, Arm.SHADOW, [True] * 60)
    look(world, one)
    assert (world.written[-1].digest, world.written[-1].kind) == (LIVE_DIGEST, UpdateKind.ROLLBACK)


@pytest.mark.parametrize("words", ["rollback: it insults people", "", "rolled forward"])
def test_a_rollback_by_hand_stands_whatever_its_words_are(words: str) -> None:
    world = RolloutTopics()
    world.by_hand("d2")
    world.clock.sleep(10)
    world.written.append(replace(world.by_hand(LIVE_DIGEST, UpdateKind.ROLLBACK), reason=words))
    del world.written[-2]
    world.answer(LIVE_DIGEST, "live", [False] * 100)
    world.answer("d2", Arm.SHADOW, [True] * 100)
    world.seen("d2", "live", 300, 290)
    look(world, times=6)
    assert len(world.written) == 2, "and nothing is asked beside it"


def test_harder_traffic_does_not_bring_a_better_version_down() -> None:
    """The new one is right on all that the old one is right on, and some more; from some time on both are right on half as much."""
    world, numbers = RolloutTopics(), np.random.default_rng(6)
    world.by_hand("new")
    one = look(world)
    for start in range(0, 2_000, 100):
        easy = 0.95 if start < 300 else 0.5
        old = numbers.random(100) < easy
        world.answer("new", "live", (old | (numbers.random(100) < 0.03)).tolist(), start)
        world.answer(LIVE_DIGEST, Arm.SHADOW, old.tolist(), start)
        look(world, one, 1)
    assert world.written[-1].digest == "new"


def test_what_took_over_is_not_blamed_for_chance_nor_after_its_time() -> None:
    for right, later_s in ((0.97, 0.0), (0.4, 2_000.0)):
        world, numbers = RolloutTopics(), np.random.default_rng(1)
        world.by_hand("new")
        one = look(world)
        world.clock.sleep(later_s)
        world.answer("new", "live", (numbers.random(100) < right).tolist())
        world.answer(LIVE_DIGEST, Arm.SHADOW, (numbers.random(100) < 0.97).tolist())
        look(world, one)
        assert world.written[-1].digest == "new"


def challenger(arm: str, digest: str) -> Challenger:
    return Challenger(arm=arm, version=digest, uri=f"file:/{digest}", digest=digest, share=0.1, salt="mine")


def test_what_a_person_set_beside_it_stays_when_others_come_and_go() -> None:
    world = RolloutTopics()
    shadow = challenger(Arm.SHADOW, "ds")
    world.by_hand(LIVE_DIGEST, UpdateKind.CHALLENGE, shadow)
    world.judged()
    one = look(world)
    assert shadow in world.written[-1].challengers
    assert canary_of(world.written[-1]) is not None
    world.seen("d2", Arm.CANARY, 60, 60)
    world.seen(LIVE_DIGEST, "live", 60, 30)
    look(world, one)
    assert (world.written[-1].digest, world.written[-1].challengers) == ("d2", (shadow,))


def test_a_canary_by_hand_does_not_switch_the_watch_off_and_is_forgotten_at_last() -> None:
    world = RolloutTopics()
    canary = challenger(Arm.CANARY, "dc")
    world.by_hand("db", UpdateKind.PROMOTION, canary)
    one = look(world)
    world.answer("db", "live", [False] * 60)
    world.answer(LIVE_DIGEST, Arm.SHADOW, [True] * 60)
    look(world, one)
    assert (world.written[-1].digest, world.written[-1].challengers) == (LIVE_DIGEST, (canary,))
    world.judged()
    one = look(world)
    assert canary_of(world.written[-1]) == canary, "a judged candidate waits for it"
    world.clock.sleep(POLICY.watch_s + 1)
    look(world, one)
    last = canary_of(world.written[-1])
    assert last is not None and last.digest == "d2", "but not for ever"


def test_a_canary_by_hand_that_does_harm_is_ended() -> None:
    world = RolloutTopics()
    world.by_hand(LIVE_DIGEST, UpdateKind.CHALLENGE, challenger(Arm.CANARY, "dc"), challenger(Arm.SHADOW, "ds"))
    world.seen("dc", Arm.CANARY, 60, 10)
    world.seen(LIVE_DIGEST, "live", 60, 58)
    look(world)
    assert [one.arm for one in world.written[-1].challengers] == [Arm.SHADOW]
    assert "it is right less often" in world.written[-1].reason


def test_a_promotion_between_a_look_and_its_update_is_not_overwritten() -> None:
    world = RolloutTopics()
    world.judged()
    one = look(world)
    world.seen("d2", Arm.CANARY, 60, 60)
    world.seen(LIVE_DIGEST, "live", 60, 30)
    assert one._topics is not None
    updates = one._topics.updates
    hotfix: list[ModelUpdate] = []

    def read() -> Sequence[ModelUpdate]:
        found = updates()
        if not hotfix:
            hotfix.append(world.by_hand("hotfix"))  # after the look read the topic, before it decides
        return found

    one._topics.updates = read  # type: ignore[method-assign]
    look(world, one, 5)
    assert [update.digest for update in world.written if update.digest != LIVE_DIGEST][:1] == ["hotfix"]
    assert world.written[-1].digest == "hotfix"
    assert world.kinds() == ["judged", Arm.CANARY, "rolled_back"], "memory and topic tell the same"


# --- history ----------------------------------------------------------------------------------------------------------


def promotions(*steps: tuple[str, str]) -> list[ModelUpdate]:
    world = RolloutTopics()
    for digest, kind in steps:
        world.by_hand(digest, kind)
    return world.written


def test_rollbacks_go_further_down_and_never_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    written = promotions(("1", "promotion"), ("2", "promotion"), ("3", "promotion"))
    monkeypatch.setattr(
        promotion, "opened", lambda update: Source(promotion._as_registered(MODEL, update.version, update.digest), update.uri)
    )
    went = []
    for _ in range(3):
        target = before(MODEL, written).folder.digest
        went.append(target)
        written += promotions((target, "rollback"))
    assert went == ["2", "1", LIVE_DIGEST]
    with pytest.raises(ModelRefused, match="nothing that was promoted lies below"):
        before(MODEL, written)
    written += promotions(("4", "promotion"))
    assert before(MODEL, written).folder.digest == LIVE_DIGEST
    with pytest.raises(ModelRefused, match="nothing to roll back"):
        before("vision-digits", written)


def test_what_is_beside_a_version_changes_no_step() -> None:
    written = promotions(("1", "promotion"), ("2", "promotion"), ("2", "challenge"), ("1", "rollback"), ("1", "challenge"))
    assert [one.digest for one in update_history.ladder(written)] == ["1"]
    was, since = update_history.turned(written)
    assert was is not None and (was.digest, since.kind) == ("2", "rollback")


# --- how it ends whatever happens -------------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [True, False])
def test_a_crash_after_any_write_ends_in_the_same_state(good: bool) -> None:
    def story(world: RolloutTopics) -> None:
        world.judged()
        for _ in range(10):
            if len(world.written) == 1:
                world.seen("d2", Arm.CANARY, 60, 60 if good else 20)
                world.seen(LIVE_DIGEST, "live", 60, 40)
            world.clock.sleep(2.0)
            try:
                look(world, times=2)  # a new controller each time
            except Crash:
                continue

    calm = RolloutTopics()
    story(calm)
    for crash_at in itertools.count(1):
        world = RolloutTopics(crash_at=crash_at)
        story(world)
        assert [(one.version, len(one.challengers)) for one in world.written] == [
            (one.version, len(one.challengers)) for one in calm.written
        ]
        assert sorted(world.kinds()) == sorted(calm.kinds())
        if world.writes < crash_at:
            break
    assert crash_at > 3


def test_times_are_compared_at_the_same_batch_size() -> None:
    small, large = (
        ArmEvidence(batches=[(n, 1.0 + 0.5 * n) for n in (1, 2, 3, 4) * 10]),
        ArmEvidence(batches=[(n, 1.0 + 0.5 * n) for n in (16, 32, 48) * 10]),
    )
    assert time_ratio(small, large) == pytest.approx(1.0, rel=0.01)
    slow = ArmEvidence(batches=[(n, 4 * (1.0 + 0.5 * n)) for n in (1, 2, 3, 4) * 10])
    assert time_ratio(slow, large) == pytest.approx(4.0, rel=0.01)
    assert "times as long" in breach(slow, large, POLICY)
    assert of_canary(ArmEvidence(), ArmEvidence(), 1.0, POLICY).action is CanaryAction.WAIT


def test_few_labels_do_not_hold_a_canary_up() -> None:
    new, old = ArmEvidence(answered=600, labelled=1, right=1), ArmEvidence(answered=600)
    assert of_canary(new, old, 2.0, POLICY).action is CanaryAction.WAIT, "more may come"
    assert of_canary(new, old, 90.0, POLICY).action is CanaryAction.PROMOTE
    assert of_canary(new, old, 101.0, POLICY).action is CanaryAction.PROMOTE
    assert of_canary(ArmEvidence(answered=600), ArmEvidence(labelled=400, right=390), 101.0, POLICY).action is CanaryAction.END, (
        "why has it none?"
    )
    assert (
        of_canary(ArmEvidence(answered=600, labelled=40, right=39), ArmEvidence(labelled=40, right=39), 101.0, POLICY).action
        is CanaryAction.END
    )


def test_on_the_same_requests_only_those_that_tell_them_apart_count() -> None:
    low, high = paired_difference(PairedAnswers(200, 0, 40))
    assert high < 0
    assert paired_difference(PairedAnswers(200, 40, 0)) == pytest.approx((-high, -low))
    assert paired_difference(PairedAnswers(200, 20, 20))[0] < 0 < paired_difference(PairedAnswers(200, 20, 20))[1]
    assert paired_difference(PairedAnswers()) == (-1.0, 1.0)
    assert "right less often" in paired_breach(ArmEvidence(), ArmEvidence(), PairedAnswers(200, 0, 40), POLICY)
    assert paired_breach(ArmEvidence(), ArmEvidence(), PairedAnswers(29, 0, 29), POLICY) == ""


def test_what_strangers_write_on_the_topics_hinders_no_other_run() -> None:
    world = RolloutTopics()
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
