"""Recorded histories through today's code: the same decisions as were recorded, or the first that differs (tests/replay/record.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import zip_longest

import pytest

from tests.replay import history
from tests.replay.history import Decision, History
from tests.replay.replays import REPLAYS

MOST_BYTES = 200_000


def first_difference(name: str, recorded: History) -> str:
    """Of the decisions of today, in words; empty where there is none."""
    for number, (was, now) in enumerate(zip_longest(recorded.decisions, REPLAYS[name](recorded))):
        now = json.loads(json.dumps(now))  # as it would be recorded
        if was != now:
            return f"{name}, decision {number}, recorded by {recorded.decisions_of}:\n  was {_changed(was, now)}\n  is  {_changed(now, was)}"
    return ""


def _changed(one: Decision | None, other: Decision | None) -> str:
    if one is None or other is None:
        return "no decision" if one is None else json.dumps(one)
    return json.dumps({name: value for name, value in one.items() if name not in other or other[name] != value})


def test_each_replay_has_a_history_and_each_history_a_replay() -> None:
    assert history.names() == sorted(REPLAYS)
    assert sum((history.FOLDER / f"{name}.json").stat().st_size for name in history.names()) <= MOST_BYTES


@pytest.mark.parametrize("name", sorted(REPLAYS))
def test_what_was_recorded_is_decided_as_it_was(name: str) -> None:
    assert first_difference(name, history.load(name)) == ""


@pytest.mark.parametrize("name", sorted(REPLAYS))
def test_a_decision_that_differs_is_told(name: str) -> None:
    recorded = history.load(name)
    field = next(iter(recorded.decisions[3]))
    changed = [*recorded.decisions[:3], {**recorded.decisions[3], field: "another"}, *recorded.decisions[4:]]
    assert f'decision 3, recorded by {recorded.decisions_of}:\n  was {{"{field}": "another"}}' in first_difference(
        name, replace(recorded, decisions=changed)
    )
    assert "is  no decision" in first_difference(name, replace(recorded, decisions=[*recorded.decisions, {}]))


@pytest.mark.parametrize("name", sorted(REPLAYS))
def test_a_history_holds_decisions_of_each_kind(name: str) -> None:
    """One that never says no, or never yes, would show little."""
    decisions = history.load(name).decisions
    kinds = {
        str(decision.get("action") or decision.get("kind") or decision.get("told") or decision.get("taken"))
        for decision in decisions
    }
    assert (
        kinds
        >= {
            "actions": {"allow", "review", "remove"},
            "drift_decisions": {"asked", "passed_over"},
            "rollout_decisions": {"canary", "promoted", "rolled_back", "refused"},
            "user_features": {"True", "False"},
        }[name]
    )
