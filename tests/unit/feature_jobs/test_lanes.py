"""Several sums in one integer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feature_jobs.online.lanes import Lanes, lanes_of

SUMS = st.lists(st.tuples(*[st.integers(0, 2**63 - 1) | st.integers(0, 9)] * 3), max_size=20)


@given(SUMS, SUMS)
def test_lanes_add_and_subtract_as_the_sums_would(stay: list[tuple[int, ...]], go: list[tuple[int, ...]]) -> None:
    lanes = 0
    for sums in [*stay, *go]:
        lanes += lanes_of(sums)
    for sums in go:
        lanes -= lanes_of(sums)
    assert Lanes(3).sums(lanes) == tuple(sum(sums[at] for sums in stay) for at in range(3))


def test_a_sum_of_more_than_63_bits_stays_in_its_lane() -> None:
    most = 2**63 - 1
    assert Lanes(2).sums(lanes_of((most, 5)) + lanes_of((most, 6))) == (2 * most, 11)
    assert Lanes(2).sums(lanes_of((most, 5)) + lanes_of((1, 6))) == (2**63, 11)
