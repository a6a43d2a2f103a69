"""Counts by minute and trends, beside a count of the raw list."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from processors.views.windows import Minutes, Positions, trending
from schemas.durations import MINUTE_MS

NOW_MS = 1_000 * MINUTE_MS + 17_000
events = st.lists(st.tuples(st.sampled_from("abc"), st.integers(NOW_MS - 30 * MINUTE_MS, NOW_MS + 3 * MINUTE_MS)), max_size=80)


@given(events, st.integers(1, 10), st.integers(0, 10))
def test_totals_are_those_of_the_raw_events(found: list[tuple[str, int]], minutes: int, ago: int) -> None:
    kept = Minutes(20)
    for name, at_ms in found:
        kept.add(name, at_ms, NOW_MS)
    last = NOW_MS // MINUTE_MS - ago
    expected = Counter(name for name, at_ms in found if last - minutes < at_ms // MINUTE_MS <= last)
    assert kept.total(NOW_MS, minutes, ago) == expected
    assert {name: sum(series) for name, series in kept.series(NOW_MS).items()} == kept.total(NOW_MS, 20)


@given(events)
def test_no_more_minutes_are_held_than_are_kept(found: list[tuple[str, int]]) -> None:
    kept = Minutes(5)
    for name, at_ms in sorted(found, key=lambda one: one[1]):
        kept.add(name, at_ms, max(at_ms, NOW_MS))
    assert len(kept._minutes) <= 5 + 3


def test_a_minute_that_has_passed_leaves_the_series() -> None:
    kept = Minutes(3)
    kept.add("a", NOW_MS, NOW_MS)
    assert kept.series(NOW_MS) == {"a": [0, 0, 1]}
    assert kept.series(NOW_MS + 2 * MINUTE_MS) == {"a": [1, 0, 0]}
    assert kept.series(NOW_MS + 3 * MINUTE_MS) == {}


def test_what_rises_most_for_its_size_comes_first_and_what_falls_not_at_all() -> None:
    now, before = {"big": 1_010, "new": 9, "same": 50, "gone": 1}, {"big": 1_000, "same": 50, "gone": 30}
    assert [(one.name, one.count, one.before) for one in trending(now, before, 10)] == [("new", 9, 0), ("big", 1_010, 1_000)]
    assert len(trending(now, before, 1)) == 1


def test_a_record_that_comes_again_is_no_news() -> None:
    seen = Positions()
    assert [seen.is_new("t", 0, offset) for offset in (5, 6, 9, 6, 9, 10)] == [True, True, True, False, False, True]
    assert seen.is_new("t", 1, 0)
