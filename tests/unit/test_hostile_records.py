"""Records that nobody should send: each ends as itself, and nothing that reads it ends with it."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from processors.views.windows import Minutes
from schemas import avro
from schemas.codec import Decoder, Encoder, head, read_any, write_any
from schemas.decoding import decode
from schemas.encoding import Constant
from schemas.errors import RetryLater, UndecodableRecord
from schemas.generated import ModelUpdate
from schemas.topics import MODEL_UPDATES
from schemas.varints import varint
from schemas.writer_schemas import MOST_VALUES, writer_of
from streams import headers as h
from streams.kafka.messages import columns
from streams.metrics import Metrics
from streams.readable import Followed, Readable
from streams.rows import Polled
from streams.schema_registry import MemoryRegistry, Registry
from tests.support.echo import Echo, EchoGroup, settle
from training_triggers.journal import is_run_key

BAD_NAME: Any = (b"\xff\xfe", b"x")
NULL: Any = ("trace", None)


class Raw:
    """A message of the client, whose headers may not be readable."""

    def __init__(self, headers: Any) -> None:
        self._headers, self._unread = headers, True

    def topic(self) -> str:
        return "t"

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 7

    def key(self) -> bytes | None:
        return None

    value = key

    def timestamp(self) -> tuple[int, int]:
        return 1, 5

    def headers(self) -> Any:
        assert self._unread, "the client keeps what it could not read, and a second look at that ends the process by SIGSEGV"
        self._unread = False
        if isinstance(self._headers, Exception):
            raise self._headers
        return self._headers


def test_a_header_without_a_value_is_an_empty_one_for_every_reader() -> None:
    polled = columns([Raw([("a", None), ("b", b"x")]), Raw(None), Raw([])])
    assert polled.headers == [[("a", b""), ("b", b"x")], None, []]


def test_headers_that_cannot_be_read_are_said_so_in_their_place_and_the_other_records_are_read() -> None:
    polled = columns([Raw([("a", b"1")]), Raw(SystemError("bad argument")), Raw(None)])
    assert polled.headers[0] == [("a", b"1")] and polled.headers[2] is None
    assert polled.headers[1] is not None and polled.headers[1][0][0] == h.HEADERS_UNREADABLE


@pytest.mark.parametrize(("header", "status", "code"), [(NULL, "ok", b""), (BAD_NAME, "failed", b"undecodable")])
def test_headers_as_kafka_allows_them_end_no_loop(header: Any, status: str, code: bytes) -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"bad", headers=[header])
    world.send(b"good")
    settle(loop)
    assert Counter(found for found, _, _ in world.results()) == Counter(["ok", status])
    assert [dict(letter.headers)[h.ERROR_CODE] for letter in world.dead()] == ([code] if code else [])


@pytest.mark.parametrize(
    ("raw", "number"),
    [
        (b"5", 5),
        (b"0042", 42),
        (b"9223372036854775807", 2**63 - 1),
        (None, None),
        (b"", None),
        (b"+5", None),
        (b" 5", None),
        (b"5\n", None),
        (b"1_000", None),
        ("²".encode(), None),
        ("٣".encode(), None),
        (b"-1", None),
        (b"9223372036854775808", None),
        (b"9" * 5000, None),
        (b"0x1f", None),
        (b"1e3", None),
        (b"\xff", None),
    ],
)
def test_a_number_in_a_header_is_ascii_digits_within_its_bounds(raw: bytes | None, number: int | None) -> None:
    assert h.whole(raw) == number


def test_a_number_below_zero_is_one_where_it_is_allowed() -> None:
    assert h.whole(b"-12", low=-100) == -12
    assert h.whole(b"-101", low=-100) is None


@pytest.mark.parametrize(
    "headers",
    [
        [(h.ATTEMPT, b"-5")],
        [(h.ATTEMPT, b"9223372036854775807")],
        [(h.REDRIVE, b"2147483648")],
        [(h.ORIGIN_TOPIC, b"\xff\xfe"), (h.ORIGIN_PARTITION, b"0"), (h.ORIGIN_OFFSET, b"1")],
        [(h.ORIGIN_TOPIC, b"a/b"), (h.ORIGIN_PARTITION, b"0"), (h.ORIGIN_OFFSET, b"1")],
        [(h.ORIGIN_TOPIC, b"echo-requests-v1"), (h.ORIGIN_PARTITION, b"-1"), (h.ORIGIN_OFFSET, b"1")],
        [(h.ORIGIN_TOPIC, b"echo-requests-v1"), (h.ORIGIN_PARTITION, b"9" * 12), (h.ORIGIN_OFFSET, b"1")],
        [(h.ORIGIN_TOPIC, b"echo-requests-v1"), (h.ORIGIN_PARTITION, b"0")],
        [(h.NOT_BEFORE_MS, b"soon")],
    ],
)
@pytest.mark.parametrize("value", [b"good", b"later", b"poison"])
def test_what_a_retry_says_of_itself_is_checked(headers: h.HeaderList, value: bytes) -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.send(b"good")
    world.retry(value, headers)
    settle(loop, passes=200)
    assert len(world.results()) == 2


def test_a_retry_whose_origin_lies_elsewhere_leaves_its_dead_letter_where_it_is() -> None:
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    world.retry(b"poison", [(h.ORIGIN_TOPIC, b"echo-requests-v1"), (h.ORIGIN_PARTITION, b"77"), (h.ORIGIN_OFFSET, b"1")])
    settle(loop)
    assert [letter.value for letter in world.dead()] == [b"poison"]


@pytest.mark.parametrize("ahead_ms", [3_600_000, 2**62])
def test_a_retry_of_a_writer_whose_clock_is_ahead_waits_as_long_as_its_topic_says(ahead_ms: int) -> None:
    world = EchoGroup(partitions=1)
    loop, begun_s = world.loop(Echo()), world.clock.monotonic_s()
    world.retry(b"good", [(h.NOT_BEFORE_MS, str(world.clock.now_ms() + ahead_ms).encode())])
    while not world.results():
        loop.run_once()
    assert 0.9 <= world.clock.monotonic_s() - begun_s <= 2.0


@pytest.mark.parametrize("value", [b"poison", b"good"])
def test_an_answer_that_cannot_be_written_ends_its_record_and_not_the_loop(value: bytes) -> None:
    """As a dead letter that nobody hears of; the others are answered."""
    world = EchoGroup(partitions=1)
    loop = world.loop(Echo())
    answer = loop.step.answer

    def broken(rows: Any, status: str, code: str, message: str) -> Any:
        if any(one == value for one in rows.values):
            raise ValueError("no answer for this one")
        return answer(rows, status, code, message)

    loop.step.answer = broken  # type: ignore[method-assign]
    late = [(h.DEADLINE_MS, b"1")]
    world.send(b"poison", b"good", headers=late if value == b"good" else None)
    world.send(b"other")
    settle(loop)
    assert value in [letter.value for letter in world.dead()]
    assert b"other" in [found for _, _, found in world.results()]


# --- schemas ------------------------------------------------------------------------------------------------------------


def _record(name: str, *fields: tuple[str, Any]) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": kind} for field, kind in fields]}


def _doubling(levels: int) -> dict[str, Any]:
    """A few lines of schema for 2^levels values in no byte."""
    inner: Any = _record("L0", ("n", "null"))
    for level in range(1, levels):
        inner = _record(f"L{level}", ("a", inner), ("b", f"L{level - 1}"))
    return _record("Top", ("a", inner))


def _deep(levels: int) -> Any:
    kind: Any = "long"
    for _ in range(levels):
        kind = {"type": "array", "items": kind}
    return _record("Deep", ("a", kind))


def _chain(levels: int) -> dict[str, Any]:
    """Flat as JSON, deep as types."""
    fields: list[tuple[str, Any]] = [("f0", {"type": "array", "items": _record("C0", ("n", "long"))})]
    for level in range(1, levels):
        item = _record(f"C{level}", ("n", {"type": "array", "items": f"C{level - 1}"}))
        fields.append((f"f{level}", {"type": "array", "items": item}))
    return _record("Chain", *fields)


HOSTILE: dict[str, Any] = {
    "recursive": _record("Node", ("next", ["null", "Node"])),
    "recursive by way of another": _record("A", ("b", ["null", _record("B", ("a", {"type": "array", "items": "A"}))])),
    "recursive in a map": _record("M", ("m", {"type": "map", "values": "M"})),
    "array of nulls": _record("Nulls", ("a", {"type": "array", "items": "null"})),
    "array of empty records": _record("Empties", ("a", {"type": "array", "items": _record("E")})),
    "array of fixed of no bytes": _record("F", ("a", {"type": "array", "items": {"type": "fixed", "name": "N", "size": 0}})),
    "doubling": _doubling(40),
    "deep": _deep(60),
    "very deep": _deep(5000),
    "deep by names": _chain(300),
    "no record": "string",
    "a list": ["null", "string"],
    "an unknown type": _record("U", ("a", "Nowhere")),
    "not Avro": {"$schema": "http://json-schema.org/draft-07/schema#"},
    "a text": "{",
    "null": None,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_writers_schema_that_could_cost_its_reader_the_life_is_refused_before_a_byte_is_read(name: str) -> None:
    ids = MemoryRegistry()
    schema_id = ids.register("content-v1-value", HOSTILE[name])
    value = head(schema_id) + b"\x02" * 200_000
    with pytest.raises(UndecodableRecord):
        read_any(value, ids)
    for n in (1, 2, 50):
        columns_, failures = Decoder("content", ids).decode([value] * n)
        assert columns_.n == 0 and len(failures) == n


@pytest.mark.parametrize("record", avro.record_names())
def test_every_schema_of_the_catalogue_is_read_by(record: str) -> None:
    for version in avro.versions(record):
        writer = writer_of(avro.schema(record, version))
        assert writer.plain is writer.schema


def test_a_record_holds_so_many_values_and_no_more() -> None:
    ids = MemoryRegistry()
    schema = avro.schema("content")
    schema_id = ids.register("content-v1-value", schema)
    images = [field["name"] for field in schema["fields"]].index("images")
    good = _content(ids, 2)
    assert Decoder("content", ids).decode([good])[0].n == 1
    many = _content(ids, 200_000)
    assert len(many) < 1024 * 1024
    _, failures = Decoder("content", ids).decode([good, many])
    assert list(failures) == [1] and f"{MOST_VALUES} values" in str(failures[1])
    assert images and schema_id
    few, failures = Decoder("content", ids, most_values=100).decode([_content(ids, 500), good] * 10)
    assert few.n == 10 and len(failures) == 10


def test_a_block_that_says_it_has_more_items_than_there_are_bytes_costs_nothing() -> None:
    ids = MemoryRegistry()
    schema = _record("Content", ("a", {"type": "array", "items": "long"}))
    schema_id = ids.register("content-v1-value", schema)
    for count in (2**62, -(2**62)):
        with pytest.raises(UndecodableRecord):
            read_any(head(schema_id) + varint(count) + b"\2" * 100_000, ids)


def _content(ids: MemoryRegistry, images: int) -> bytes:
    ids.register("content-v1-value", avro.schema("content"))
    media = [{"data": None, "uri": None, "sha256": None, "size": None}] * images
    return Encoder("content", "content-v1-value", ids).encode({"content_id": ["c"], "images": Constant(media)}, 1)[0]


def strange(record: str) -> dict[str, Any]:
    """Reads the same bytes, and is another schema: an equal one would have the same id under all subjects."""
    return {**avro.schema(record), "doc": "mine"}


def test_a_schema_of_another_subject_is_no_way_around_the_check_of_this_one() -> None:
    ids = MemoryRegistry()
    good, stranger = ids.register("content-v1-value", avro.schema("content")), ids.register("mine-value", strange("content"))
    decoder = Decoder("content", ids, "content-v1-value")
    body = _content(ids, 0)[5:]
    columns_, failures = decoder.decode([head(good) + body, head(stranger) + body])
    assert columns_.n == 1 and "is not a version of content-v1-value" in str(failures[1])


def test_random_schema_ids_cost_one_call_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    schema = json.dumps(avro.schema("content"))

    def call(self: Registry, method: str, path: str, body: Any = None) -> Any:
        calls.append(path)
        if path.endswith("/versions"):
            return [1]
        assert path.endswith("/versions/1"), path
        return {"id": 4, "version": 1, "schema": schema}

    monkeypatch.setattr(Registry, "_call", call)
    decoder = Decoder("content", Registry("http://nowhere"), "content-v1-value")
    for batch in range(3):
        _, failures = decoder.decode([head(1000 + 100 * batch + i) + b"junk" for i in range(100)])
        assert len(failures) == 100
    assert len(calls) == 4  # a listing each batch, and the one version once
    calls.clear()
    decoder.decode([head(4) + b"junk"] * 100)
    assert calls == []


def test_logical_types_of_a_later_version_are_no_other_values() -> None:
    """A field of numbers that a writer calls times is still a field of numbers; out of the range of times as well."""
    ids = MemoryRegistry()
    schema = json.loads(json.dumps(avro.schema("user-event")))
    for field in schema["fields"]:
        if field["name"] == "event_ms":
            field["type"] = {"type": "long", "logicalType": "timestamp-millis"}
    ids.register("user-events-v1-value", avro.schema("user-event"))
    later = ids.register("user-events-v1-value", schema)
    example = avro.from_json(next(iter(avro.examples("user-event").values())), avro.schema("user-event"))
    value = write_any({**example, "event_ms": 2**63 - 1}, avro.schema("user-event"), later)
    for n in (1, 30):
        columns_, failures = Decoder("user-event", ids).decode([value] * n)
        assert not failures and columns_.numbers("event_ms") == [2**63 - 1] * n


# --- readers that are no loop -------------------------------------------------------------------------------------------


def _polled(*values: bytes | None) -> Polled:
    n = len(values)
    return Polled([("model-updates-v1", 0)] * n, list(range(n)), [None] * n, list(values), [None] * n, [0] * n)


def _update(ids: MemoryRegistry, model: str, version: str = "2") -> bytes:
    ids.register(MODEL_UPDATES.subject, avro.schema("model-update"))
    update = ModelUpdate(model=model, version=version, uri="file:/m", digest="d", reason="why", actor="a", decided_ms=1)
    return Encoder.of(MODEL_UPDATES, ids).encode_one(update)


def test_what_cannot_be_read_of_an_inner_topic_is_passed_over_and_counted_and_hides_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ids, metrics = MemoryRegistry(), Metrics()
    good = _update(ids, "m")
    stranger = head(ids.register("mine-value", strange("model-update"))) + good[5:]

    def parse(record: dict[str, Any]) -> ModelUpdate:
        if record["model"] == "odd":
            raise ZeroDivisionError
        return ModelUpdate.from_dict(record)

    topic = Readable(MODEL_UPDATES, ids, parse, metrics)
    found = topic.rows(_polled(None, good, b"junk", b"", stranger, good[:-1], _update(ids, "odd"), good))
    assert [(row, update.model) for row, update in found] == [(1, "m"), (7, "m")]
    assert topic.passed_over == 6 and metrics.total("passed_over") == 6


def test_a_registry_that_does_not_answer_makes_records_wait_and_passes_over_none() -> None:
    ids = MemoryRegistry()
    parts = [_polled(_update(ids, "m", "1")), _polled(), _polled(_update(ids, "m", "2"))]
    silent = True

    class Silent(MemoryRegistry):
        def ids_under(self, subject: str, *, anew: bool) -> Any:
            if silent:
                raise RetryLater("the registry does not answer")
            return ids.ids_under(subject, anew=anew)

        schema_of = ids.schema_of

    class Parts:
        def poll(self) -> Polled:
            return parts.pop(0) if parts else Polled()

        def read_to_end(self, limit_s: float) -> Polled:
            return self.poll()

        def close(self) -> None: ...

    topic = Followed(Parts(), Readable(MODEL_UPDATES, Silent(), ModelUpdate.from_dict))
    assert topic.poll() == [] and topic.poll() == []
    silent = False
    assert [update.version for update in topic.poll()] == ["1", "2"]
    assert topic.poll() == []


@pytest.mark.parametrize("key", ["../../tmp/x", "/etc", "", ".", "..", "a/b", "a\0b", "-x", "ä", "a" * 129, "a b", "a\n"])
def test_a_run_key_is_a_name_and_no_path(key: str) -> None:
    assert not is_run_key(key)


@pytest.mark.parametrize("key", ["moderation-text-1f3a9c02", "m_1.2", "a" * 128])
def test_run_keys_as_they_are_made_are_taken(key: str) -> None:
    assert is_run_key(key)


def test_minutes_that_are_far_away_are_not_kept() -> None:
    kept, now_ms = Minutes(60), 1_795_000_000_000
    for at_ms in (2**63 - 1, -(2**63), 0, now_ms + 2 * 3_600_000, now_ms):
        kept.add("x", at_ms, now_ms)
    assert kept.total(now_ms, 60) == Counter(x=1) and len(kept._minutes) == 1


@pytest.mark.parametrize("n", [1, 30])
@pytest.mark.parametrize("kind", ["int", ["null", "int"], {"type": "array", "items": "int"}])
def test_an_int_that_holds_more_than_32_bits_is_not_what_its_schema_says(kind: Any, n: int) -> None:
    """Its varint may, and what is behind (Arrow, Java) refuses it for the whole file or job."""
    schema = _record("Content", ("a", kind))
    before = {"int": b"", "array": b"\x02"}.get(
        kind if isinstance(kind, str) else "array" if isinstance(kind, dict) else "", b"\x02"
    )
    behind = b"\0" if isinstance(kind, dict) else b""
    for number, good in ((2**31 - 1, True), (-(2**31), True), (2**31, False), (-(2**31) - 1, False), (2**63 - 1, False)):
        _, failures = decode([before + varint(number) + behind] * n, schema, schema)
        assert len(failures) == (0 if good else n)
