"""The watch of a new version where labels tell only of answers that somebody saw: the version before it keeps a share of the keys."""

from __future__ import annotations

import pytest

from schemas.vocabulary import Arm, Purpose
from tests.unit.training_triggers.test_evidence import MODEL
from tests.unit.training_triggers.test_rollout import LIVE_DIGEST, POLICY, RolloutTopics, look
from training_triggers.rollout import decisions


@pytest.fixture
def labelled_as_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (decisions.watch_arm("recommendation"), decisions.watch_arm(MODEL)) == (Arm.CANARY, Arm.SHADOW)
    monkeypatch.setattr(decisions, "LABELLED_AS_SHOWN", {MODEL})


@pytest.mark.usefixtures("labelled_as_shown")
@pytest.mark.parametrize(("right", "stands"), [(30, False), (58, True)])
def test_where_labels_tell_only_of_what_was_seen_the_version_before_keeps_a_share_of_the_keys(right: int, stands: bool) -> None:
    world = RolloutTopics()
    world.by_hand("db")
    one = look(world)
    (watcher,) = world.written[-1].challengers
    assert (watcher.arm, watcher.digest, watcher.purpose) == (Arm.CANARY, LIVE_DIGEST, Purpose.WATCH)
    world.seen("db", "live", 60, right)
    world.seen(LIVE_DIGEST, Arm.CANARY, 60, 58)
    look(world, one)
    assert (world.written[-1].digest == "db") is stands
    assert world.written[-1].challengers == ((watcher,) if stands else ())
    assert world.kinds(f"{MODEL}-db") == ([] if stands else ["rolled_back"])


@pytest.mark.usefixtures("labelled_as_shown")
def test_the_next_candidate_takes_the_place_of_the_version_before_and_gives_it_back_if_it_is_worse() -> None:
    world = RolloutTopics()
    world.by_hand("db")
    look(world)
    world.judged(champion="db")
    look(world)
    assert [(c.digest, c.purpose) for c in world.written[-1].challengers] == [("d2", Purpose.RUN)]
    world.seen("d2", Arm.CANARY, 60, 30)
    world.seen("db", "live", 60, 58)
    one = look(world)
    assert [(c.digest, c.purpose) for c in world.written[-1].challengers] == [(LIVE_DIGEST, Purpose.WATCH)]
    world.clock.sleep(POLICY.watch_s + 1)
    look(world, one)
    assert (world.written[-1].digest, world.written[-1].challengers) == ("db", ()), "until the watch is over"


def test_a_watch_in_the_other_arm_is_ended_in_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was set by a version of this code that chose another arm."""
    world = RolloutTopics()
    world.by_hand("db")
    one = look(world)
    assert [(c.arm, c.purpose) for c in world.written[-1].challengers] == [(Arm.SHADOW, Purpose.WATCH)]
    monkeypatch.setattr(decisions, "LABELLED_AS_SHOWN", {MODEL})
    look(world, one)
    assert [c.arm for c in world.written[-1].challengers] == [Arm.SHADOW], "it is watched already"
    world.clock.sleep(POLICY.watch_s + 1)
    look(world, one)
    assert world.written[-1].challengers == ()
