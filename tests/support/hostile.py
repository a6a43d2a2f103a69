"""Records that strangers may write to a topic, from a fixed seed: junk, truncated records, records of other subjects, extreme
values; keys and headers too. For the fuzz test of the steps (`unit/test_fuzz_topics.py`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from schemas import avro
from schemas.codec import head, write_any
from schemas.topic_kinds import Topic
from streams import headers as h

INTS = (0, 1, -1, 2**31 - 1, -(2**31))
LONGS = (*INTS, 2**31, 2**53 + 1, 2**63 - 1, -(2**63), 10**12, 1_795_000_000_000)
FLOATS = (0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 3.4e38, 5e-324, 1e-30)
TEXTS = (
    "", " ", "a", "\0", "../../../tmp/x", "/etc/passwd", "[/red] x", "[bold]", "é", "\u202e", "\u2028", "x" * 300, "x" * 20_000, "²", "٣", "-1",
    "9" * 40, "nan", "shipped:moderation-text", "file://[", "file:///%00", "file:/etc", "hf:../x", "models:/m/1", "moderation-text",
    "moderation", "live", "canary", "shadow", "review", "allow", "remove", "view", "purchase", "judged", "launched", "renew", "<f4", "O", "|S3", "utf8",
    "00000000-0000-7000-8000-000000000000", "ffffffff-ffff-7fff-bfff-ffffffffffff", "not-a-uuid", "\x1b]0;t\x07", "<script>", "a/b/c", "{}",
)  # fmt: skip
BYTES = (b"", b"\0", b"\xff" * 7, b"\0\0\x80?" * 3, b"x" * 5_000)
RAW = (
    b"", b"0", b"-1", b"+5", b" 5 ", b"1_000", "²".encode(), "٣".encode(), b"9" * 19, b"9" * 40, b"9223372036854775807", b"-9223372036854775808",
    b"\xff\xfe", b"soon", b"replies-v1/3", "replies-v1/²".encode(), b"replies-v1/-1", b"content-v1/0", b"replies-v1/99999", b"\0", b"x" * 200,
    b"0.5", b"1e9", b"nan",
)  # fmt: skip
NAMES = (
    h.CE_ID, h.DEADLINE_MS, h.PRIORITY, h.REPLY_TO, h.ATTEMPT, h.NOT_BEFORE_MS, h.REDRIVE, h.ORIGIN_TOPIC, h.ORIGIN_PARTITION, h.ORIGIN_OFFSET,
    h.ERROR_CODE, h.ERROR_MESSAGE, h.HEADERS_DROPPED, h.HEADERS_UNREADABLE, h.REPLAY_OFFSET_MS, h.TRACEPARENT, h.CE_TYPE, "", "x", "é",
)  # fmt: skip
BAD_NAME: Any = b"\xff\xfe"  # Kafka accepts it; none of our clients writes it


@dataclass(frozen=True)
class Sent:
    """partition: -1 selects the partition by the key."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[Any, bytes | None]]


def value_of(kind: Any, random: Random, names: Mapping[str, Any]) -> Any:
    """Any value of the type, with extreme values more often."""
    match kind:
        case list():
            return value_of(random.choice(kind), random, names)
        case {"type": "record", "fields": fields}:
            return {field["name"]: value_of(field["type"], random, names) for field in fields}
        case {"type": "array", "items": items}:
            return [value_of(items, random, names) for _ in range(random.choice((0, 0, 1, 2, 5)))]
        case {"type": "map", "values": values}:
            return {random.choice(TEXTS): value_of(values, random, names) for _ in range(random.choice((0, 1, 3)))}
        case {"type": inner}:
            return value_of(inner, random, names)
        case "null":
            return None
        case "boolean":
            return random.random() < 0.5
        case "int":
            return random.choice(INTS)
        case "long":
            return random.choice(LONGS)
        case "float" | "double":
            return random.choice(FLOATS)
        case "bytes":
            return random.choice(BYTES)
        case "string":
            return random.choice(TEXTS)
        case _:
            return value_of(names[kind], random, names)


def near(record: str, random: Random) -> dict[str, Any]:
    """An example of the record with one or two unusual fields: it gets further through the code than a record with only
    unusual fields."""
    schema = avro.schema(record)
    made = dict(avro.from_json(random.choice(list(avro.examples(record).values())), schema))
    names = avro.parsed(schema).get("__named_schemas", {})
    for field in random.sample(avro.parsed(schema)["fields"], k=min(len(schema["fields"]), random.choice((0, 1, 1, 2)))):
        made[field["name"]] = value_of(field["type"], random, names)
    return made


def value(record: str, schema_ids: Mapping[str, int], random: Random) -> bytes | None:
    """schema_ids: by record, one of its subject for the topic; strangers are the ids of other records."""
    schema = avro.schema(record)
    own = schema_ids[record]

    def valid() -> bytes:
        if random.random() < 0.6:
            return write_any(near(record, random), schema, own)
        return write_any(value_of(avro.parsed(schema), random, avro.parsed(schema).get("__named_schemas", {})), schema, own)

    def stranger() -> bytes:
        other = random.choice(sorted(schema_ids))
        return write_any(near(other, random), avro.schema(other), schema_ids[other])

    def changed() -> bytes:
        raw = bytearray(valid())
        for _ in range(random.choice((1, 3))):
            raw[random.randrange(5, len(raw))] = random.randrange(256)
        return bytes(raw)

    made: tuple[Callable[[], bytes | None], ...] = (
        lambda: None,
        lambda: b"",
        lambda: random.randbytes(random.choice((1, 4, 5, 40, 900))),
        lambda: head(random.choice((0, 1, 2**31 - 1, random.randrange(2**31)))) + random.randbytes(30),
        lambda: head(own) + random.randbytes(random.choice((0, 3, 60))),
        lambda: head(own) + b"\xff" * 12,
        lambda: valid()[: random.randrange(1, 60)],
        lambda: valid() + b"\0",
        changed,
        stranger,
    )
    return random.choice(made)() if random.random() < 0.4 else valid()


def headers(random: Random) -> list[tuple[Any, bytes | None]]:
    found: list[tuple[Any, bytes | None]] = []
    for _ in range(random.choice((0, 0, 1, 2, 5, 70))):
        name = BAD_NAME if random.random() < 0.02 else random.choice(NAMES)
        found.append((name, None if random.random() < 0.1 else random.choice(RAW)))
    return found


def key(random: Random) -> bytes | None:
    return random.choice((None, b"", b"k", b"\xff\xfe", b"../x", b"x" * 900, random.randbytes(8)))


def sent(topic: Topic[Any], schema_ids: Mapping[str, int], random: Random, record: str = "") -> Sent:
    """record: of a topic whose values come from other topics."""
    name = record or topic.record_name
    return Sent(key(random), value(name, schema_ids, random), headers(random))
