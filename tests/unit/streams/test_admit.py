"""Admission at its limits, and that the few calls that admit a plain batch decide as the rules one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import headers as h
from streams.headers import HeaderList
from streams.loop.admit import MAX_HEADER_BYTES, MAX_HEADERS, MAX_ID_BYTES, MAX_KEY_BYTES, Admitted, admit
from streams.rows import Polled

TOPIC, RETRY = "requests-v1", "requests-v1-retry-1s"
MAX_RECORD_BYTES = 200
Record = tuple[bytes | None, bytes | None, HeaderList]  # key, value and headers


def admitted(*records: Record, topic: str = TOPIC) -> Admitted:
    n = len(records)
    keys, values = [key for key, _, _ in records], [value for _, value, _ in records]
    headers: list[HeaderList | None] = [list(each) for _, _, each in records]
    return admit(Polled([(topic, 0)] * n, list(range(n)), keys, values, headers, [1_000] * n), MAX_RECORD_BYTES, {RETRY}, 0)


def code(made: Admitted) -> str:
    """Why the only record is refused; empty where it is admitted."""
    return made.refused[0][1].code if made.refused else ""


HEADER_BYTES = MAX_HEADER_BYTES - len(h.CE_ID) - len("r") - len("big")


@pytest.mark.parametrize("plain", [True, False], ids=["in a plain batch", "with a deadline beside it"])
@pytest.mark.parametrize(
    ("at_limit", "above"),
    [
        ((b"k", b"x" * MAX_RECORD_BYTES, []), (b"k", b"x" * (MAX_RECORD_BYTES + 1), [])),
        ((b"k" * MAX_KEY_BYTES, b"x", []), (b"k" * (MAX_KEY_BYTES + 1), b"x", [])),
        ((b"k", b"x", [("big", b"x" * HEADER_BYTES)]), (b"k", b"x", [("big", b"x" * (HEADER_BYTES + 1))])),
        ((b"k", b"x", [("n", b"")] * (MAX_HEADERS - 1)), (b"k", b"x", [("n", b"")] * MAX_HEADERS)),
    ],
    ids=["value", "key", "bytes of headers", "number of headers"],
)
def test_what_lies_at_a_limit_is_admitted_and_what_lies_above_is_not(at_limit: Record, above: Record, plain: bool) -> None:
    beside: list[Record] = [] if plain else [(b"k", b"x", [(h.CE_ID, b"d"), (h.DEADLINE_MS, b"9999")])]
    for (key, value, headers), expected in ((at_limit, ""), (above, "too-large")):
        assert code(admitted((key, value, [(h.CE_ID, b"r"), *headers]), *beside)) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(h.ORIGIN_PARTITION, b"2147483647"), (h.ORIGIN_OFFSET, b"7")], ("a-v1", 2147483647, 7)),
        ([(h.ORIGIN_PARTITION, b"2147483648"), (h.ORIGIN_OFFSET, b"7")], "invalid"),
        ([(h.ORIGIN_PARTITION, b"3")], "invalid"),
        ([(h.ORIGIN_OFFSET, b"7")], "invalid"),
        ([], "invalid"),
    ],
)
def test_the_origin_of_a_retry_is_whole_or_the_record_is_refused(headers: HeaderList, expected: object) -> None:
    made = admitted((b"k", b"x", [(h.CE_ID, b"r"), (h.ORIGIN_TOPIC, b"a-v1"), *headers]), topic=RETRY)
    assert (code(made) or made.all_rows.origins[0]) == expected


def test_a_retry_that_says_nothing_of_itself_is_a_first_try_of_its_own_place() -> None:
    rows = admitted((b"k", b"x", [(h.CE_ID, b"r")]), topic=RETRY).rows
    assert (rows.attempts, rows.redrives, rows.origins) == ([0], [0], [(RETRY, 0, 0)])


def test_the_priority_of_each_counts_where_all_have_one() -> None:
    made = admitted(*[(b"k", b"x", [(h.CE_ID, b"r"), (h.PRIORITY, priority)]) for priority in (b"9", b"0", b"-3", b"70")])
    assert made.rows.priorities == [9, 0, 0, 9]


SIZES = st.sampled_from([0, 1, MAX_ID_BYTES, MAX_ID_BYTES + 1])
HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "n" * MAX_ID_BYTES, "n" * (MAX_ID_BYTES + 1)]),
        st.sampled_from([b"", b"x", b"x" * 600, b"x" * 33_000]),
    ),
    max_size=4,
)
RECORDS = st.builds(
    lambda key, value, raw_id, headers, many: (key, value, [*raw_id, *headers, *[("n", b"")] * many]),
    st.sampled_from([None, b"", b"k", b"k" * MAX_KEY_BYTES, b"k" * (MAX_KEY_BYTES + 1)]),
    st.sampled_from([None, b"", b"x", b"x" * MAX_RECORD_BYTES, b"x" * (MAX_RECORD_BYTES + 1)]),
    st.one_of(st.just([]), SIZES.map(lambda n: [(h.CE_ID, b"r" * n)]), st.just([(h.CE_ID, b"\xff")])),
    HEADERS,
    st.sampled_from([0, 0, 0, 59, 63, 64]),
)


@given(st.lists(RECORDS, min_size=1, max_size=4))
@settings(max_examples=300)
def test_a_plain_batch_is_admitted_as_its_records_one_by_one(records: list[Record]) -> None:
    """A record with a deadline beside them makes each be looked at by itself."""
    whole = admitted(*records)
    looked_at = admitted(*records, (b"k", b"x", [(h.CE_ID, b"d"), (h.DEADLINE_MS, b"9999")]))
    assert [(row, error.code) for row, error in whole.refused] == [(row, error.code) for row, error in looked_at.refused]
    assert whole.all_rows.request_ids == looked_at.all_rows.request_ids[:-1]
    assert whole.rows.offsets == looked_at.rows.offsets[:-1]
    assert (whole.rows.deadlines_ms, whole.rows.priorities) == (looked_at.rows.deadlines_ms[:-1], looked_at.rows.priorities[:-1])
