"""Weighted turns of one device: shares as set while all want it, all of it for who is alone, and no debt from idleness."""

from __future__ import annotations

from threading import Thread

import pytest

from schemas.errors import RetryLater
from streams.clock import ManualClock, SystemClock
from streams.process.shares import Shares


def run(weights: dict[str, float], turns: int, seconds: dict[str, float]) -> dict[str, float]:
    """Every name always wants a turn; who goes next is asked of Shares itself, on one thread and a manual clock."""
    clock = ManualClock()
    shares = Shares(weights, clock)
    held = dict.fromkeys(weights, 0.0)
    for _ in range(turns):
        shares._waiting = set(weights)
        name = shares._next()
        shares._waiting = set()
        with shares.turn(name):
            clock.sleep(seconds[name])
        held[name] += seconds[name]
    return held


def test_time_is_shared_by_weight_whatever_a_batch_takes() -> None:
    held = run({"moderation": 3.0, "vision": 1.0}, 4000, {"moderation": 0.01, "vision": 0.05})
    assert held["moderation"] / held["vision"] == pytest.approx(3.0, rel=0.05)


def test_who_was_idle_is_not_owed_what_it_did_not_ask_for() -> None:
    clock = ManualClock()
    shares = Shares({"a": 1.0, "b": 1.0}, clock)
    for _ in range(100):
        with shares.turn("a"):
            clock.sleep(1.0)
    with shares.turn("b"):
        clock.sleep(1.0)
    shares._waiting = {"a", "b"}
    assert shares._served["b"] >= 99.0  # it began at the present
    assert shares._next() == "a"


def test_one_holds_at_a_time_and_a_wait_has_a_limit() -> None:
    shares = Shares({"a": 1.0, "b": 1.0}, SystemClock(), limit_s=0.05)
    with shares.turn("a"), pytest.raises(RetryLater, match="not free for b"), shares.turn("b"):
        pass
    shares, inside = Shares({"a": 1.0, "b": 1.0}, SystemClock(), limit_s=10.0), list[int]()

    def work(name: str) -> None:
        for _ in range(200):
            with shares.turn(name):
                inside.append(1)
                assert len(inside) == 1
                inside.pop()

    threads = [Thread(target=work, args=(name,)) for name in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
