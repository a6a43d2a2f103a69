"""Several sums in one integer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from feature_jobs.online.lanes import Lanes

THREE = Lanes(3)
SUMS = st.lists(st.tuples(*[st.integers(0, 2**63 - 1) | st.integers(0, 9)] * 3), max_size=20)


@given(SUMS, SUMS)
def test_lanes_add_and_subtract_as_the_sums_would(stay: list[tuple[int, ...]], go: list[tuple[int, ...]]) -> None:
    lanes = 0
    for sums in [*stay, *go]:
        lanes += THREE.of(sums)
    for sums in go:
        lanes -= THREE.of(sums)
    assert THREE.sums(lanes) == tuple(sum(sums[at] for sums in stay) for at in range(3))


def test_a_sum_of_more_than_63_bits_stays_in_its_lane() -> None:
    two, most = Lanes(2), 2**63 - 1
    assert two.sums(two.of((most, 5)) + two.of((most, 6))) == (2 * most, 11)
    assert two.sums(two.of((most, 5)) + two.of((1, 6))) == (2**63, 11)
    assert two.sums(two.of((2 * most, 5)) + two.of((1, 6))) == (2 * most + 1, 11)
