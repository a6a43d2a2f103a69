"""Pages of messages: each record once, whatever the clocks, sizes and gaps; and where a page has less than was asked for, it says why."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.monitor.reading import browse
from infra.monitor.reading.browse import RecordPage
from infra.monitor.reading.record_filter import Message, filter_of
from streams.kafka.config import KafkaAddress
from streams.rows import Place, Polled
from streams.schema_registry import MemoryRegistry

ADDRESS, IDS = KafkaAddress(bootstrap="nowhere"), MemoryRegistry()
Kept = dict[int, dict[int, tuple[int, int]]]  # by partition and offset: timestamp and bytes


class Clock:
    """Time passes with what is read."""

    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s


class Broadcast:
    kept: Kept
    part = 4
    part_s = 0.0
    clock: Clock

    def __init__(
        self, address: Any, topic: str, clock: Any, starts: dict[Place, int], numbers: list[int], ends: Mapping[Place, int]
    ) -> None:
        self._left = [
            (place, offset)
            for place, start in starts.items()
            for offset in sorted(self.kept[place[1]])
            if start <= offset < ends[place]
        ]

    def at_end(self) -> bool:
        return not self._left

    def wait(self, wait_s: float) -> Polled:
        self.clock.now_s += self.part_s
        part, self._left = self._left[: self.part], self._left[self.part :]
        about = [self.kept[place[1]][offset] for place, offset in part]
        n = len(part)
        return Polled(
            [p for p, _ in part],
            [o for _, o in part],
            [b"k"] * n,
            [b"x" * size for _, size in about],
            [None] * n,
            [t for t, _ in about],
        )

    def close(self) -> None: ...


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> type[Broadcast]:
    class Here(Broadcast):
        clock = Clock()

    monkeypatch.setattr(browse, "KafkaBroadcast", Here)
    monkeypatch.setattr(browse, "CLOCK", Here.clock)
    monkeypatch.setattr(browse, "MOST_BYTES", 400)
    monkeypatch.setattr(browse, "SCANNED_MOST", 40)
    return Here


RECORD = st.tuples(st.integers(0, 50), st.sampled_from([1, 10, 150]))
TOPIC = st.dictionaries(st.integers(0, 2), st.dictionaries(st.integers(0, 60), RECORD, max_size=25), min_size=1, max_size=3)


def _bounds(kept: Kept) -> dict[Place, tuple[int, int]]:
    """A marker of a transaction stands behind the last record."""
    return {("t", number): (0, max(offsets, default=-1) + 2) for number, offsets in kept.items()}


def _all(kept: Kept, limit: int, match: str, backwards: bool) -> tuple[list[tuple[int, int]], list[RecordPage]]:
    """What all pages hold, and the pages."""
    bounds, at = _bounds(kept), {place: low for place, (low, _) in _bounds(kept).items()}
    pages: list[RecordPage] = []
    keep = filter_of(match) if match else None
    while len(pages) < 400:
        page = browse.page(ADDRESS, IDS, bounds, None if backwards else at, limit, keep)
        pages.append(page)
        if page.next is None:
            return [(one.partition, one.offset) for page in pages for one in page.records], pages
        following = {("t", int(number)): offset for number, offset in page.next.items()}
        if backwards:
            bounds = {place: (low, max(low, min(high, following[place]))) for place, (low, high) in bounds.items()}
        at = following
    raise AssertionError("the pages do not end")


@given(TOPIC, st.integers(1, 12), st.sampled_from(["", "bytes>5"]), st.booleans(), st.integers(1, 7))
@settings(suppress_health_check=list(HealthCheck), deadline=None, max_examples=60)
def test_all_pages_together_hold_every_record_once(
    kafka: type[Broadcast], kept: Kept, limit: int, match: str, backwards: bool, part: int
) -> None:
    kafka.kept, kafka.part = kept, part
    found, pages = _all(kept, limit, match, backwards)
    wanted = [
        (number, offset) for number, offsets in kept.items() for offset, (_, size) in offsets.items() if not match or size > 5
    ]
    assert sorted(found) == sorted(wanted)
    for number in kept:
        mine = [offset for partition, offset in found if partition == number]
        assert mine == sorted(mine, reverse=backwards)
    assert all(len(page.records) <= limit for page in pages)
    assert all(page.cut for page in pages[:-1] if len(page.records) < limit)


@pytest.mark.parametrize("backwards", [False, True])
def test_a_page_that_is_cut_off_says_so_and_the_next_goes_on_there(kafka: type[Broadcast], backwards: bool) -> None:
    """Half a second a record: ten in a page's time, and nothing of the rest is lost."""
    kafka.kept = {0: {offset: (offset, 1) for offset in range(30)}, 1: {offset: (offset, 1) for offset in range(30)}}
    kafka.part, kafka.part_s = 1, 0.5
    found, pages = _all(kafka.kept, 20, "", backwards)
    assert len(found) == len(set(found)) == 60
    assert len(pages) > 3
    assert all("no more in 5 s" in page.cut for page in pages if page.next and len(page.records) < 20)


def test_large_records_fill_a_page_by_their_size(kafka: type[Broadcast]) -> None:
    kafka.kept = {0: {offset: (offset, 150) for offset in range(12)}}
    for backwards in (False, True):
        found, pages = _all(kafka.kept, 12, "", backwards)
        assert len(found) == 12
        assert max(sum(one.bytes for one in page.records) for page in pages) < 400 + 4 * 150
        assert "MiB" in pages[0].cut


def test_partitions_whose_newest_records_are_too_large_together_come_page_by_page(kafka: type[Broadcast]) -> None:
    kafka.kept = {number: {0: (0, 150)} for number in range(3)}
    kafka.part = 1
    found, pages = _all(kafka.kept, 1, "", backwards=True)
    assert sorted(found) == [(0, 0), (1, 0), (2, 0)]
    assert len(pages) < 7


def test_a_clock_that_goes_back_skips_nothing() -> None:
    """Newest first by time, and by offset within a partition: a page ends each partition at one offset."""
    found = {
        ("t", 0): [Message("t", 0, offset, at_ms, "", {}, None, 0) for offset, at_ms in enumerate([9, 1, 5])],
        ("t", 1): [Message("t", 1, 0, 4, "", {}, None, 0)],
    }
    assert [(one.timestamp_ms, one.offset) for one in browse.merged(found)] == [(5, 2), (4, 0), (1, 1), (9, 0)]
