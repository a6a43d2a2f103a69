"""The roll-up against brute force: any events, in any order of tiles and versions, at any times."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from feature_jobs.offline.lake import history
from feature_jobs.online.rollup import REMEMBERED_MS, SETTLED_AFTER_MS, Entity, Tile
from processors.features.feature_blob import VERSION_BYTES, EntityValues, Freshness, pack, unpack
from schemas.durations import DAY_MS
from schemas.features import ITEM, TILE_MS, USER, WINDOWS, View
from schemas.generated import UserEvent
from tests.support.brute_features import differences, item_values, tiles_of, user_values

T0 = 1_795_000_200_000
KINDS = st.sampled_from(["view", "cart", "purchase", "rating", "search"])


@st.composite
def event(draw: st.DrawFn) -> UserEvent:
    kind = draw(KINDS)
    return UserEvent(
        event_id="e",
        user_id="u",
        kind=kind,
        item_id=None if kind == "search" else draw(st.sampled_from(["a", "b", "c"])),
        session_id=draw(st.sampled_from([None, "s", "t"])),
        quantity=draw(st.integers(1, 3)),
        amount_cents=draw(st.integers(0, 10_000)) if kind == "purchase" else None,
        rating=draw(st.integers(1, 5)) if kind == "rating" else None,
        event_ms=T0 + draw(st.one_of(st.integers(-9 * DAY_MS, 0), st.integers(-2 * TILE_MS, TILE_MS))),
    )


EVENTS = st.lists(event(), max_size=40)


@given(EVENTS, st.lists(st.integers(0, 8 * DAY_MS), min_size=1, max_size=4), st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=300, deadline=None)
def test_values_are_those_of_brute_force_whatever_the_order(events, steps, random, by_visit) -> None:  # type: ignore[no-untyped-def]
    """Tiles come in pieces (each version holds more of its events), mixed, some of them twice and some out of date."""
    versions = []
    for n in sorted({random.randint(0, len(events)) for _ in range(3)} | {len(events)}):
        some = [Tile.of(record) for record in tiles_of(events[:n], by_visit=by_visit)]
        random.shuffle(some)
        versions += some
    versions += random.sample(versions, len(versions) // 2)  # repeats, and versions older than what is held
    entity, view = Entity(), USER if by_visit else ITEM
    times = sorted(T0 + step for step in steps)
    for tile in versions:
        entity.put(tile, T0)
        if random.random() < 0.2:
            entity.advance(times[0])
    for at_ms in times:
        entity.advance(at_ms)
        expected = user_values(events, at_ms) if by_visit else item_values(events, at_ms)
        assert differences(entity.values(view, None), expected) == {}
        due_ms = entity.next_change_ms()
        left = [tile_of_key + length for tile_of_key in {t.start_ms for t in versions} for length in WINDOWS.values()]
        assert due_ms == min((ms for ms in left if ms > at_ms), default=None)


@given(EVENTS)
@settings(max_examples=100, deadline=None)
def test_what_has_settled_leaves_the_memory_and_stays_in_the_totals(events) -> None:  # type: ignore[no-untyped-def]
    entity = Entity()
    for record in tiles_of(events, by_visit=True):
        entity.put(Tile.of(record), T0)
    later_ms = T0 + SETTLED_AFTER_MS + DAY_MS
    entity.advance(later_ms)
    last = UserEvent(event_id="l", user_id="u", kind="view", item_id="z", event_ms=later_ms)
    (tile,) = tiles_of([last], by_visit=True)
    entity.put(Tile.of(tile), later_ms)
    assert len(entity._tiles) == len(entity._keys) == len(entity._seen_ms) == 1
    entity.advance(later_ms)
    assert differences(entity.values(USER, None), user_values([*events, last], later_ms)) == {}


@given(EVENTS, st.integers(0, 2**32).map(Random), st.booleans())
@settings(max_examples=150, deadline=None)
def test_tiles_that_come_again_count_once_in_a_sink_that_runs_and_in_one_that_starts(events, random, by_visit) -> None:  # type: ignore[no-untyped-def]
    """Flink's state is built anew, once or more, weeks later: any tiles come again in any order, in all their versions. A restarted
    sink reads the whole topic; one that runs read it as it came, and let tiles leave windows in between."""
    versions: dict[tuple[int, str, str], list[Tile]] = {}
    for n in sorted({random.randint(0, len(events)) for _ in range(3)} | {len(events)}):
        for record in tiles_of(events[:n], by_visit=by_visit):
            versions.setdefault(Tile.of(record).key, []).append(Tile.of(record))
    log, at_ms = list[tuple[Tile, int]](), T0
    for tiles in versions.values():
        log += [(tile, at_ms) for tile in random.sample(tiles, random.randint(1, len(tiles)))]
    while at_ms < T0 + REMEMBERED_MS - 10 * DAY_MS:
        at_ms += random.randint(1, 12 * DAY_MS)
        again = random.sample(sorted(versions), random.randint(0, len(versions)))
        log += [(tile, at_ms) for key in again for tile in versions[key]]
    log += [(tiles[-1], at_ms) for tiles in versions.values()]
    running, view = Entity(), USER if by_visit else ITEM
    for tile, came_ms in log:
        running.put(tile, came_ms)
        if random.random() < 0.3:
            running.advance(came_ms + random.randint(0, DAY_MS))
    restarted = Entity()
    for tile, came_ms in log:
        restarted.put(tile, came_ms)
    at_ms += DAY_MS
    expected = user_values(events, at_ms) if by_visit else item_values(events, at_ms)
    for entity in (running, restarted):
        entity.advance(at_ms)
        assert differences(entity.values(view, None), expected) == {}


@given(EVENTS, st.lists(st.integers(-9 * DAY_MS, 8 * DAY_MS), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_history_holds_at_any_time_what_was_true_then(events, offsets) -> None:  # type: ignore[no-untyped-def]
    """At a time, the last row by then has exactly the tiles whose last event had come."""
    tiles = sorted((Tile.of(record) for record in tiles_of(events, by_visit=True)), key=lambda tile: tile.last_ms)
    rows = list(history(USER, tiles, T0 + 8 * DAY_MS, None))
    assert [at for at, _ in rows] == sorted({at for at, _ in rows}), "one row a time, in order"
    for at_ms in (T0 + offset for offset in offsets):
        held = [values for row_ms, values in rows if row_ms <= at_ms]
        done = {(t.start_ms, t.session_id, t.item_id) for t in tiles if t.last_ms <= at_ms}
        known = [e for e in events if (e.event_ms - e.event_ms % TILE_MS, e.session_id or "", e.item_id or "") in done]
        if not held:
            assert not known
            continue
        assert differences(held[-1], user_values(known, at_ms)) == {}


_VALUES = {"int": st.integers(-(2**62), 2**62), "float": st.floats(allow_nan=False), "text": st.text(max_size=50)}


def _values_of(view: View) -> st.SearchStrategy[tuple[View, dict[str, Any]]]:
    return st.tuples(st.just(view), st.fixed_dictionaries({f.name: _VALUES[f.kind.value] for f in view.features}))


@given(
    st.one_of(_values_of(USER), _values_of(ITEM)),
    st.one_of(st.none(), st.integers(1, DAY_MS - 1)),
    st.integers(0, 2**60),
    st.integers(0, 10**13),
)
@settings(max_examples=100, deadline=None)
def test_a_blob_gives_back_what_was_packed(
    packed: tuple[View, dict[str, Any]], lasts_ms: int | None, offset: int, now_ms: int
) -> None:
    view, values = packed
    until_ms = None if lasts_ms is None else now_ms + lasts_ms
    blob = pack(view, EntityValues((offset, now_ms), now_ms, until_ms, now_ms - 5, values))
    names = [f.name for f in view.features]
    served = unpack(view, [None, blob, b"", blob[:60]], names, now_ms, 0)
    assert served.state.tolist() == [Freshness.MISSING, Freshness.FRESH, Freshness.MISSING, Freshness.MISSING]
    assert {name: _plain(served.values[name][1]) for name in names} == values
    assert {name: _plain(served.values[name][0]) for name in names} == {f.name: f.default for f in view.features}
    assert unpack(view, [blob], names, now_ms + view.ttl_ms, 0).state.tolist() == [Freshness.STALE]
    if until_ms is not None:
        assert unpack(view, [blob], names, until_ms, 0).state.tolist() == [Freshness.STALE]
        assert unpack(view, [blob], names, until_ms, 10).state.tolist() == [Freshness.FRESH]
    later = pack(view, EntityValues((offset, now_ms + 1), now_ms, until_ms, 0, values))
    assert later[:VERSION_BYTES] > blob[:VERSION_BYTES]
    anew = pack(view, EntityValues((0, 0), 0, until_ms, 0, values, 1))
    assert anew[:VERSION_BYTES] > later[:VERSION_BYTES]


def test_a_blob_of_another_layout_is_missing() -> None:
    values: dict[str, Any] = {f.name: f.default for f in ITEM.features}
    blob = pack(ITEM, EntityValues((1, 1), 1, None, 1, values))
    blob = blob + b"\0" * 1000
    assert unpack(USER, [blob], ["age"], 1, 0).state.tolist() == [Freshness.MISSING]


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
