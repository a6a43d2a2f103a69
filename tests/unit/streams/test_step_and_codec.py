"""The step that hands long batches to a thread, the codec with a registry that fails, and the reply address."""

from __future__ import annotations

import time
from collections.abc import Mapping
from threading import Event, current_thread, main_thread
from typing import Any

import pytest

from inference_workers.result_records import reply_partition
from schemas import avro
from schemas.codec import Decoder, Encoder, read_any, schema_id_of
from schemas.encoding import Constant
from schemas.errors import BatchTooLarge, DependencyUnavailable, RetryLater, Stop, UndecodableRecord
from schemas.topics import REPLIES
from streams.broker import Commit
from streams.clock import ManualClock, SystemClock
from streams.loop.batching import CostLine
from streams.loop.outcome import Defer, Emit, Outcome
from streams.loop.step import INLINE, BatchStep, bisect
from streams.rows import Place, Rows
from streams.schema_registry import MemoryRegistry, Registry
from tests.support.echo import Function
from tests.support.rows import rows_of


def _rows(n: int) -> Rows:
    return rows_of([(("t", 0), i) for i in range(n)])


def test_a_batch_that_will_take_long_goes_to_a_thread_and_the_caller_goes_on() -> None:
    line = CostLine()
    line.observe(4.0, 5_000.0)

    def slow(rows: Rows) -> list[Outcome]:
        time.sleep(0.2)
        return [Emit(rows)]

    step = BatchStep(Function(slow), SystemClock(), line, hand_off_ms=100)
    step.submit(_rows(4))
    assert step.busy()
    assert step.completed(0.0) == []
    assert len(step.completed(5.0)) == 1
    assert not step.busy()
    step.close()


def test_halving_asks_a_logarithm_of_times_for_one_bad_row() -> None:
    calls: list[int] = []

    def process(rows: Rows) -> list[Outcome]:
        calls.append(len(rows))
        if 37 in rows.offsets:
            raise ValueError("bad")
        return [Emit(rows)]

    outcomes = bisect(process, _rows(64))
    assert sum(len(outcome.rows) for outcome in outcomes) == 64
    assert len(calls) == 1 + 2 * 6


def test_culprits_are_looked_for_no_longer_than_there_is_time() -> None:
    clock = ManualClock()
    calls: list[int] = []

    def process(rows: Rows) -> list[Outcome]:
        calls.append(len(rows))
        clock.sleep(15.0)
        raise RetryLater("no answer in 15 s")

    step = BatchStep(Function(process), clock, CostLine())
    step.submit(_rows(64))
    outcomes = step.completed(0.0)
    assert sum(len(outcome.rows) for outcome in outcomes) == 64
    assert {type(outcome) for outcome in outcomes} == {Defer}
    assert len(calls) < 20 and clock.monotonic_s() < 240


def test_a_batch_that_is_too_large_is_halved_whatever_the_time() -> None:
    clock = ManualClock()

    def process(rows: Rows) -> list[Outcome]:
        if len(rows) > 4:
            raise BatchTooLarge(f"{len(rows)} at once")
        clock.sleep(15.0)
        return [Emit(rows)]

    step = BatchStep(Function(process), clock, CostLine(), hand_off_ms=INLINE)
    step.submit(_rows(64))
    outcomes = step.completed(0.0)
    assert [(type(outcome), len(outcome.rows)) for outcome in outcomes] == [(Emit, 4)] * 16


def test_a_batch_that_turns_out_to_be_too_large_goes_to_the_thread_and_the_caller_goes_on() -> None:
    may_work = Event()

    def process(rows: Rows) -> list[Outcome]:
        if len(rows) > 4:
            raise BatchTooLarge(f"{len(rows)} at once")
        assert current_thread() is not main_thread()
        assert may_work.wait(30.0)
        return [Emit(rows)]

    line = CostLine()
    step = BatchStep(Function(process), SystemClock(), line)
    step.submit(_rows(64))
    assert step.busy() and step.completed(0.0) == []
    assert not line.knows, "the refusal, which took no time, says nothing about the work"
    may_work.set()
    outcomes: list[Outcome] = []
    while step.busy():
        outcomes += step.completed(30.0)
    assert [(type(outcome), len(outcome.rows)) for outcome in outcomes] == [(Emit, 4)] * 16
    assert sorted(offset for outcome in outcomes for offset in outcome.rows.offsets) == list(range(64))
    step.close()


class Stateful(Function):
    """keeps_state tells it by `restore`."""

    def restore(self, positions: Mapping[Place, Commit]) -> None: ...


def test_a_batch_of_a_processor_with_state_is_halved_inline() -> None:
    def process(rows: Rows) -> list[Outcome]:
        if len(rows) > 4:
            raise BatchTooLarge(f"{len(rows)} at once")
        return [Emit(rows)]

    step = BatchStep(Stateful(process), SystemClock(), CostLine())
    step.submit(_rows(8))
    assert not step.busy() and len(step.completed(0.0)) == 2


def test_what_the_whole_batch_lacks_is_asked_for_once() -> None:
    calls: list[int] = []

    def process(rows: Rows) -> list[Outcome]:
        calls.append(len(rows))
        raise DependencyUnavailable("the device is not free")

    (outcome,) = bisect(process, _rows(64))
    assert isinstance(outcome, Defer) and len(outcome.rows) == 64 and calls == [64]


def test_a_registry_that_does_not_answer_is_asked_once_and_not_again_for_as_long_as_that_took() -> None:
    clock = ManualClock()
    registry = Registry("http://127.0.0.1:9", limit_s=5.0, tries=1, clock=clock)
    asked: list[str] = []

    def silent(request: Any, timeout: float) -> Any:
        asked.append(request.full_url)
        clock.sleep(timeout)
        raise TimeoutError

    registry._opener.open = silent  # type: ignore[method-assign,assignment]
    for schema_id in range(64):
        with pytest.raises(RetryLater):
            registry.schema_of(schema_id)
    assert len(asked) == 1 and clock.monotonic_s() == 5.0
    clock.sleep(5.0)
    with pytest.raises(RetryLater):
        registry.schema_of(1)
    assert len(asked) == 2


def test_what_stops_the_process_is_not_halved() -> None:
    def process(rows: Rows) -> list[Outcome]:
        raise Stop("the model is gone")

    with pytest.raises(Stop):
        bisect(process, _rows(8))


def test_a_registry_that_does_not_answer_hurts_only_what_was_never_seen() -> None:
    down = Registry("http://127.0.0.1:9", limit_s=0.2, tries=1)
    good = MemoryRegistry()
    good.register("s", avro.schema("content"))
    value = Encoder("content", "s", good).encode({"content_id": ["c"], "text": ["t"]}, 1)[0]
    with pytest.raises(RetryLater):
        Decoder("content", down).decode([value])
    down._schemas[schema_id_of(value)] = avro.schema("content")
    assert Decoder("content", down).decode([value])[0].text("text") == ["t"]


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"\x01\0\0\0\x01rest", b"\0\0\0\0\x63rest"])
def test_values_that_are_not_in_the_wire_format_say_why(value: bytes | None) -> None:
    with pytest.raises(UndecodableRecord, match=r"null|bytes|starts with|no schema"):
        read_any(value, MemoryRegistry())


def test_versions_of_a_record_may_be_mixed_in_one_batch() -> None:
    ids = MemoryRegistry()
    old: dict[str, Any] = {**avro.schema("content"), "fields": avro.schema("content")["fields"][:2]}
    ids.register("s", avro.schema("content"))
    ids.register("s", old)
    new_value = Encoder("content", "s", ids).encode({"content_id": ["new"], "text": ["a"], "kind": ["post"]}, 1)[0]
    old_value = b"\0\0\0\0\x02" + b"\x06old" + b"\x02\x02b"
    columns, failures = Decoder("content", ids).decode([new_value, old_value, b"junk"])
    assert set(failures) == {2}
    assert columns.text("content_id") == ["new", "old"]
    assert columns.text("kind") == ["post", None]


@pytest.mark.parametrize(
    ("raw", "partition"),
    [
        (b"replies-v1/3", 3),
        (b"replies-v1/32", None),
        (b"content-v1/0", None),
        (b"replies-v1/-1", None),
        (b"\xff/1", None),
        ("replies-v1/²".encode(), None),
        (b"replies-v1/+3", None),
        (b"replies-v1/ 3", None),
    ],
)
def test_workers_reply_to_the_reply_topic_only(raw: bytes, partition: int | None) -> None:
    assert REPLIES.partitions == 32
    assert reply_partition(raw) == partition


def test_a_default_of_bytes_is_spelled_as_json_spells_it() -> None:
    ids = MemoryRegistry()
    ids.register("s", avro.schema("prediction-log"))
    example = next(iter(avro.examples("prediction-log").values()))
    record = avro.from_json({k: v for k, v in example.items() if k != "thresholds"}, avro.schema("prediction-log"))
    columns = {name: Constant(value) for name, value in record.items() if name != "thresholds"}
    (value,) = Encoder("prediction-log", "s", ids).encode(columns, 1)
    assert read_any(value, ids)["thresholds"] == b""


@pytest.mark.parametrize("n", [1, 50])
def test_records_have_bytes_where_the_schema_says_so(n: int) -> None:
    """Few are read one by one, many in columns: with the same result."""
    ids = MemoryRegistry()
    ids.register("s", avro.schema("prediction-outcome"))
    (example, *_) = avro.examples("prediction-outcome").values()
    record = avro.from_json(example, avro.schema("prediction-outcome"))
    record |= {"outputs": b"\xcd\xcc\xcc\xbd", "output_names": [], "truth": {"spam": True}}
    values = Encoder("prediction-outcome", "s", ids).encode({k: Constant(v) for k, v in record.items()}, n)
    columns, errors = Decoder("prediction-outcome", ids).decode(values)
    assert errors == {}
    assert columns.records() == [record] * n
