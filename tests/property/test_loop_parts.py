"""Offsets, release and batches: whatever order work ends in, nothing is committed past what is unfinished."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from streams.loop.batching import Batcher, BatchLimits, CostLine
from streams.loop.offsets import OffsetTracker
from streams.loop.release import Ended, releasable
from streams.rows import Place, Rows
from tests.support.rows import rows_of


def sized(pairs: list[tuple[Place, int]], sizes: list[int]) -> Rows:
    return rows_of(pairs, values=[b"x" * size for size in sizes])


class Tracking(RuleBasedStateMachine):
    """The tracker against a plain set: committable is the lowest offset that was polled and not finished."""

    def __init__(self) -> None:
        super().__init__()
        self.tracker = OffsetTracker()
        self.place: Place = ("t", 0)
        self.open: set[int] = set()
        self.position = 0

    @rule(gaps=st.lists(st.integers(0, 3), min_size=1, max_size=10))
    def poll(self, gaps: list[int]) -> None:
        offsets = []
        for gap in gaps:
            self.position += gap
            offsets.append(self.position)
            self.position += 1
        self.tracker.polled([self.place] * len(offsets), offsets)
        self.open.update(offsets)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        done = data.draw(st.sets(st.sampled_from(sorted(self.open)), min_size=1))
        self.tracker.finish([self.place] * len(done), list(done))
        self.open -= done

    @rule()
    def forget(self) -> None:
        self.tracker.forget(self.place)
        self.open.clear()

    @invariant()
    def committable_is_the_lowest_unfinished(self) -> None:
        found = self.tracker.lowest_unfinished(self.place)
        if found is None:
            assert not self.open
        elif self.open:
            assert found == min(self.open)
        else:
            assert found == self.position


TestTracking = Tracking.TestCase


@st.composite
def finished_work(draw: st.DrawFn) -> tuple[list[Ended], dict[Place, set[int]]]:
    """Outcomes over three partitions, some finished, and what of each partition is unfinished."""
    polled = {("t", p): list(range(draw(st.integers(0, 8)))) for p in range(3)}
    everything = draw(st.permutations([(place, offset) for place, offsets in polled.items() for offset in offsets]))
    outcomes: list[list[tuple[Place, int]]] = []
    left = list(everything)
    while left:
        size = draw(st.integers(1, min(4, len(left))))
        outcomes.append(sorted(left[:size], key=lambda pair: pair[1]))
        left = left[size:]
    done = [draw(st.booleans()) for _ in outcomes]
    held = [Ended(rows_of(pairs), []) for pairs, is_done in zip(outcomes, done, strict=True) if is_done]
    unfinished: dict[Place, set[int]] = {place: set() for place in polled}
    for pairs, is_done in zip(outcomes, done, strict=True):
        if not is_done:
            for place, offset in pairs:
                unfinished[place].add(offset)
    return held, unfinished


@given(finished_work())
def test_what_is_let_out_leaves_no_gap_and_nothing_more_could_be(work: tuple[list[Ended], dict[Place, set[int]]]) -> None:
    held, unfinished = work
    ends = dict.fromkeys(unfinished, 8)
    out, still, limits = releasable(held, lambda place: min(unfinished[place], default=ends[place]))
    assert {id(e) for e in out} | {id(e) for e in still} == {id(e) for e in held}
    kept_back = {(p, o) for e in still for p, o in zip(e.rows.places, e.rows.offsets, strict=True)}
    kept_back |= {(p, o) for p, offsets in unfinished.items() for o in offsets}
    for ended in out:
        for place, offset in zip(ended.rows.places, ended.rows.offsets, strict=True):
            assert offset < limits[place]
            assert not any(p == place and o < offset for p, o in kept_back)
    for ended in still:  # each that stays lies, itself or through others, above something unfinished
        assert any(
            any(p == place and o < offset for p, o in kept_back - set(zip(ended.rows.places, ended.rows.offsets, strict=True)))
            for place, offset in zip(ended.rows.places, ended.rows.offsets, strict=True)
        )


@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=20), max_size=10),
    st.integers(1, 16),
    st.integers(1, 120),
)
def test_batches_lose_nothing_and_pass_no_limit(chunks: list[list[int]], max_rows: int, max_cost: int) -> None:
    batcher = Batcher(BatchLimits(max_rows=max_rows, max_cost=max_cost), CostLine())
    offset, sent, got = 0, [], []
    for sizes in chunks:
        pairs: list[tuple[Place, int]] = [(("t", 0), offset + i) for i in range(len(sizes))]
        offset += len(sizes)
        sent += [pair[1] for pair in pairs]
        batcher.add(sized(pairs, sizes), 0.0)
    costs = [size for sizes in chunks for size in sizes]
    while (batch := batcher.close(0.0, 0)) is not None:
        cost = sum(map(len, filter(None, batch.values)))
        assert len(batch) <= max_rows
        assert cost <= max_cost or len(batch) == 1
        got += batch.offsets
        if len(got) < len(costs):
            assert len(batch) == max_rows or cost + costs[len(got)] > max_cost, "the next would have fit"
    assert got == sent
    assert len(batcher) == 0


@given(st.integers(1, 500), st.integers(0, 500))
def test_a_batch_never_waits_past_its_age_or_a_members_deadline(max_wait_ms: int, deadline_in_ms: int) -> None:
    line = CostLine()
    line.observe(1.0, 20.0)
    batcher = Batcher(BatchLimits(max_rows=8, max_wait_ms=max_wait_ms), line)
    batcher.add(rows_of([(("t", 0), 0)], deadlines_ms=[1_000_000 + deadline_in_ms]), 0.0)
    due_in_s = batcher.due_in_s(0.0, 1_000_000)
    assert due_in_s is not None
    assert due_in_s <= max_wait_ms / 1000
    assert due_in_s <= max(0, deadline_in_ms - 20) / 1000 + 1e-9


def test_a_batch_that_is_not_due_waits_until_it_is() -> None:
    batcher = Batcher(BatchLimits(max_rows=8, max_wait_ms=500), CostLine())
    batcher.add(rows_of([(("t", 0), 0)]), 10.0)
    assert batcher.close(10.4, 0) is None
    closed = batcher.close(10.5, 0)
    assert closed is not None and len(closed) == 1


def test_the_cost_line_finds_slope_and_start() -> None:
    line = CostLine()
    for cost in (10, 200, 50, 1000, 400) * 20:
        line.observe(cost, 3.0 + 0.01 * cost)
    assert abs(line.predict_ms(600) - 9.0) < 0.1
