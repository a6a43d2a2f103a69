"""A recorded history: records of topics as an earlier version wrote them, and what was decided on them.

One JSON file each: writer schemas by id, values in base64, and the commits that the records and the decisions are of."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas import avro
from schemas.codec import write_any
from schemas.topics import CATALOGUE
from streams.schema_registry import MemoryRegistry
from tests.replay.scenarios import Written

FOLDER = Path(__file__).parent / "histories"
TOPICS = {topic.name: topic for topic in CATALOGUE}
Decision = dict[str, Any]


@dataclass(frozen=True)
class Read:
    """One record of a history."""

    topic: str
    key: bytes
    at_ms: int
    value: bytes


@dataclass(frozen=True)
class History:
    """schemas: by id, the subject and the writer's schema. records_of, decisions_of: commits."""

    records_of: str
    decisions_of: str
    schemas: dict[str, tuple[str, Any]]
    records: list[Read]
    decisions: list[Decision]

    def ids(self) -> MemoryRegistry:
        """A registry that knows the writers' schemas by the ids in the records, and those of today."""
        made = MemoryRegistry()
        for schema_id, (subject, schema) in sorted(self.schemas.items(), key=lambda item: int(item[0])):
            assert made.register(subject, schema) == int(schema_id), "ids are given in the order of registration"
        for topic in CATALOGUE:
            if topic.record is not None:
                made.register(topic.subject, avro.schema(topic.record_name))
        return made

    def save(self, name: str) -> None:
        plain = {
            "records_of": self.records_of,
            "decisions_of": self.decisions_of,
            "schemas": _without_docs(self.schemas),
            "records": [[read.topic, read.key.decode(), read.at_ms, b64encode(read.value).decode()] for read in self.records],
            "decisions": self.decisions,
        }
        (FOLDER / f"{name}.json").write_text("{\n" + ",\n".join(_lines(plain)) + "\n}\n")


def _without_docs(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {name: _without_docs(value) for name, value in schema.items() if name != "doc"}
    return [_without_docs(each) for each in schema] if isinstance(schema, list | tuple) else schema


def _lines(plain: dict[str, Any]) -> Iterator[str]:
    """A record and a decision a line, so that a difference is one."""
    for name, value in plain.items():
        if isinstance(value, list):
            yield f"{json.dumps(name)}: [\n" + ",\n".join(_compact(each) for each in value) + "\n]"
        else:
            yield f"{json.dumps(name)}: {_compact(value)}"


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def names() -> list[str]:
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def load(name: str) -> History:
    plain = json.loads((FOLDER / f"{name}.json").read_text())
    records = [Read(topic, key.encode(), at_ms, b64decode(value)) for topic, key, at_ms, value in plain["records"]]
    schemas = {schema_id: (subject, schema) for schema_id, (subject, schema) in plain["schemas"].items()}
    return History(plain["records_of"], plain["decisions_of"], schemas, records, plain["decisions"])


def written_today(written: Sequence[Written], commit: str) -> History:
    """The records of a scenario, encoded by the code as it is; nothing is decided on them yet."""
    ids = MemoryRegistry()
    schemas, reads = {}, []
    for each in written:
        topic = TOPICS[each.topic]
        schema = avro.schema(topic.record_name)
        schema_id = ids.register(topic.subject, schema)
        schemas[str(schema_id)] = (topic.subject, schema)
        reads.append(Read(each.topic, each.key.encode(), each.at_ms, write_any(each.record, schema, schema_id)))
    return History(commit, "", schemas, reads, [])


def decided(history: History, decisions: list[Decision], commit: str) -> History:
    return replace(history, decisions=decisions, decisions_of=commit)
