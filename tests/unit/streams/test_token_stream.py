"""Readers of tokens see each token once, in order, whatever earlier owners write."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from streams.token_stream import TokenStream


def record(attempt: int, sequence: int, *tokens: int, last: bool = False) -> dict[str, Any]:
    return {
        "attempt": attempt,
        "sequence": sequence,
        "tokens": [{"token": token, "text": f"{token} ", "logprob": None, "alternatives": []} for token in tokens],
        "last": last,
        "finish_reason": "stop" if last else None,
        "made_ms": 5,
    }


def read(*records: dict[str, Any], stream: TokenStream | None = None) -> list[int]:
    stream = stream or TokenStream()
    return [token.token for one in records for token in stream.take(one)]


def test_repeats_are_dropped_and_the_end_is_the_end() -> None:
    stream = TokenStream()
    assert read(record(1, 0), record(1, 0, 7, 8), record(1, 1, 8, 9), record(1, 3, 10, last=True), stream=stream) == [7, 8, 9, 10]
    assert (stream.reason, stream.sequence, stream.made_ms) == ("stop", 4, 5)
    assert read(record(9, 4, 11), stream=stream) == []


def test_lower_attempts_count_no_more_once_a_higher_one_was_read() -> None:
    stream = TokenStream()
    late = record(1, 2, 66, last=True)
    assert read(record(1, 0, 7, 8), record(5, 0), late, record(5, 2, 9), late, record(5, 3, 10), stream=stream) == [7, 8, 9, 10]
    assert stream.end is None


def test_tokens_behind_a_gap_are_left_out_and_counted() -> None:
    stream = TokenStream()
    assert read(record(1, 0, 7), record(1, 2, 9), stream=stream) == [7]
    assert stream.gaps == 1


def test_a_reader_goes_on_where_it_was() -> None:
    records = [record(1, 0, 7, 8), record(2, 0), record(2, 2, 9, 10), record(2, 4, 11, last=True)]
    stream = TokenStream(attempt=2, sequence=3)
    assert read(*records, stream=stream) == [10, 11]


@given(st.lists(st.integers(1, 6), min_size=1, max_size=6), st.data())
def test_whatever_each_owner_makes_readers_see_one_sequence(parts: list[int], data: st.DataObject) -> None:
    """Each owner goes on after what lies before its first record; those before it write on without knowing of it."""
    log: list[dict[str, Any]] = []
    for attempt, count in enumerate(parts, start=1):
        log.append(record(attempt, 0))
        start = len(read(*log))
        for position in range(start, start + count):
            log.append(record(attempt, position, position))
            for earlier in range(1, attempt):
                if data.draw(st.booleans()):
                    log.append(record(earlier, data.draw(st.integers(0, position + 2)), 99))
    seen = read(*log)
    assert seen == list(range(len(seen))) and len(seen) == sum(parts)
    cut = data.draw(st.integers(0, len(log)))
    first, second = TokenStream(), TokenStream()
    before = read(*log[:cut], stream=first)
    second.attempt, second.sequence = first.attempt, first.sequence
    assert before + read(*log[cut:], stream=second) == seen
