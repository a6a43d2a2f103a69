"""Request ids: UUIDv7 by form, with their time inside; the same id for the same record."""

from __future__ import annotations

import uuid

from streams.ids import derived, time_ms_of, uuid7


def test_an_id_is_a_uuid_of_version_7_that_tells_its_time() -> None:
    made = [uuid7(1_764_000_000_000 + i) for i in range(100)]
    assert {uuid.UUID(one).version for one in made} == {7}
    assert {uuid.UUID(one).variant for one in made} == {uuid.RFC_4122}
    assert [time_ms_of(one) for one in made] == [1_764_000_000_000 + i for i in range(100)]
    assert made == sorted(made)


def test_a_record_without_an_id_gets_the_same_one_each_time_it_is_read() -> None:
    assert derived("t", 1, 7, 5) == derived("t", 1, 7, 5) != derived("t", 1, 8, 5)
    assert time_ms_of(derived("t", 1, 7, 1_764_000_000_000)) == 1_764_000_000_000


def test_what_is_no_uuid_tells_no_time() -> None:
    assert time_ms_of("order-17") is None
    assert time_ms_of(str(uuid.UUID(int=0))) is None
